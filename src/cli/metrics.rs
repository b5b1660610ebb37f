//! Where the metrics of a command go.

use std::path::Path;
use std::sync::Arc;

use super::context::{App, now};
use super::run_options::RunOptions;
use crate::error::Result;
use crate::event::Sink;
use crate::report::metrics::Metrics;
use crate::report::metrics::serve::Listening;
use crate::report::metrics::textfile::Textfile;

/// The metrics of this process, if anybody is to read them.
pub(super) struct Metering {
    metrics: Option<Arc<Metrics>>,
    textfile: Option<Textfile>,
}

impl Metering {
    /// Takes the address and writes the file for the first time.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where one cannot be had: before anything else starts.
    pub(super) fn start(app: &App, options: &RunOptions) -> Result<Self> {
        let configured = &app.config.metrics;
        let listen = options
            .metrics_listen
            .as_ref()
            .or(configured.listen.as_ref());
        let file = options
            .metrics_textfile
            .as_ref()
            .or(configured.textfile.as_ref());
        if listen.is_none() && file.is_none() {
            return Ok(Self {
                metrics: None,
                textfile: None,
            });
        }
        let metrics = Arc::new(Metrics::new(now));
        let listening = listen.map(|address| Listening::at(address)).transpose()?;
        let textfile = file
            .map(|path| Textfile::at(Path::new(path), metrics.clone()))
            .transpose()?;
        if let Some(listening) = listening {
            let address = listening.address()?;
            listening.serve(metrics.clone())?;
            app.say(&format!("metrics are at http://{address}/metrics"));
        }
        if let Some(textfile) = &textfile {
            textfile.clone().keep_writing();
        }
        Ok(Self {
            metrics: Some(metrics),
            textfile,
        })
    }

    /// What feeds them.
    pub(super) fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.metrics.clone().map(|metrics| metrics as Arc<dyn Sink>)
    }

    /// Writes the last state.
    pub(super) fn write(&self) {
        if let Some(Err(error)) = self.textfile.as_ref().map(Textfile::write) {
            tracing::error!("{error}");
        }
    }
}
