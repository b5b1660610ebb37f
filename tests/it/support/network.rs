//! A network between pgshift and its server, with weather.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy that can go silent for one connection (bytes are taken and go nowhere, and nothing is
/// closed), be slow, cut connections, and lose replies.
pub(crate) struct Network {
    port: u16,
    /// By the port from which the server sees a connection.
    silent: Arc<Mutex<BTreeMap<u16, watch::Sender<bool>>>>,
    /// New connections are silent from the beginning.
    closed: watch::Sender<bool>,
    weather: watch::Sender<Weather>,
}

#[derive(Debug, Clone, Default)]
struct Weather {
    /// Connections of an earlier number are cut.
    cuts: u64,
    /// Every packet is as late.
    delay: Duration,
    /// Of so many COMMITs one is answered to nobody; 0 for none.
    lost_one_in: u32,
}

/// What both directions of a connection know of it.
#[derive(Clone)]
struct Line {
    silent: watch::Receiver<bool>,
    weather: watch::Receiver<Weather>,
    /// The next reply is lost and the connection ends.
    doomed: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

impl Network {
    /// Before the server at this port of 127.0.0.1.
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let silent: Arc<Mutex<BTreeMap<u16, watch::Sender<bool>>>> = Arc::default();
        let known = silent.clone();
        let (closed, new_ones) = watch::channel(false);
        let (weather, forecast) = watch::channel(Weather::default());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else {
                    continue;
                };
                let (sender, receiver) = watch::channel(*new_ones.borrow());
                let seen_as = far.local_addr().expect("connected").port();
                known.lock().expect("no panic").insert(seen_as, sender);
                let line = Line {
                    silent: receiver,
                    weather: forecast.clone(),
                    doomed: watch::Sender::new(false),
                    ended: watch::Sender::new(false),
                };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(line.clone().carry(near_read, far_write, true));
                tokio::spawn(line.carry(far_read, near_write, false));
            }
        });
        Self {
            port,
            silent,
            closed,
            weather,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The connection that the server sees at this port goes silent.
    pub(crate) fn silence(&self, connection: i32) {
        let connection = u16::try_from(connection).expect("a port");
        let known = self.silent.lock().expect("no panic");
        known
            .get(&connection)
            .expect("a connection through here")
            .send_replace(true);
    }

    /// New connections are silent, or no longer.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.send_replace(closed);
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Every packet is as late from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Of so many COMMITs one is done, its reply is lost and its connection cut; 0 for none.
    pub(crate) fn lose_one_reply_in(&self, commits: u32) {
        self.weather
            .send_modify(|weather| weather.lost_one_in = commits);
    }
}

impl Line {
    async fn carry(self, from: OwnedReadHalf, to: OwnedWriteHalf, to_server: bool) {
        let (mut ended, mut weather) = (self.ended.subscribe(), self.weather.clone());
        let born = weather.borrow().cuts;
        tokio::select! {
            () = self.carry_all(from, to, to_server) => {}
            _ = ended.wait_for(|ended| *ended) => {}
            _ = weather.wait_for(|weather| weather.cuts > born) => {}
        }
        self.ended.send_replace(true);
    }

    async fn carry_all(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, to_server: bool) {
        let mut buffer = vec![0; 65_536];
        let mut rng = Rng::new();
        let mut swallowed = Vec::new();
        loop {
            let Ok(read) = from.read(&mut buffer).await else {
                return;
            };
            if *self.silent.borrow() {
                // Neither bytes nor their end: both sides believe that the other is there.
                std::future::pending::<()>().await;
            }
            if read == 0 {
                return;
            }
            let weather = self.weather.borrow().clone();
            if !weather.delay.is_zero() {
                tokio::time::sleep(weather.delay).await;
            }
            let bytes = &buffer[..read];
            if to_server {
                let commit = bytes.windows(7).any(|part| part == b"COMMIT\0");
                if commit && weather.lost_one_in > 0 && rng.u32(0..weather.lost_one_in) == 0 {
                    self.doomed.send_replace(true);
                }
            } else if *self.doomed.borrow() {
                // ReadyForQuery, idle: the transaction has ended. What comes before it is lost too.
                // It may come in two pieces, and a notification right behind it.
                swallowed.extend_from_slice(bytes);
                if swallowed.windows(6).any(|part| part == b"Z\0\0\0\x05I") {
                    return;
                }
                continue;
            }
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}
