//! The tasks that move the messages of connections, alone and in a pool.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, Notification};

use super::{Driver, Target};
use crate::pg::error::{from_pg, smuggle};

/// Makes a pool's connections as [`Target::connect`] makes its own.
pub(super) struct PoolConnect(pub(super) Target);

impl deadpool_postgres::Connect for PoolConnect {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<
        Box<
            dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>>
                + Send
                + '_,
        >,
    > {
        Box::pin(async move {
            match self.0.open().await {
                Ok((client, driver)) => Ok((client, tokio::spawn(drive(driver, None)))),
                Err(error) => Err(smuggle(error).await),
            }
        })
    }
}

/// Moves a connection's messages until it ends: notices to the log, notifications to `notify`.
pub(super) async fn drive(mut driver: Driver, notify: Option<mpsc::UnboundedSender<Notification>>) {
    loop {
        match std::future::poll_fn(|context| driver.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => log_notice(&notice),
            Some(Ok(AsyncMessage::Notification(notification))) => {
                if let Some(notify) = &notify {
                    // A receiver that was dropped has heard enough.
                    let _ = notify.send(notification);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(target: "pgshift::pg", "connection lost: {}", from_pg(error));
                return;
            }
            None => {
                tracing::debug!(target: "pgshift::pg", "connection closed");
                return;
            }
        }
    }
}

fn log_notice(notice: &tokio_postgres::error::DbError) {
    use tokio_postgres::error::Severity;
    match notice.parsed_severity() {
        Some(Severity::Warning) => {
            tracing::warn!(target: "pgshift::notice", "{}", notice.message());
        }
        Some(Severity::Notice | Severity::Info) => {
            tracing::info!(target: "pgshift::notice", "{}", notice.message());
        }
        _ => tracing::debug!(target: "pgshift::notice", "{}", notice.message()),
    }
}
