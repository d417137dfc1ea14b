//! What the process says about itself: log lines to standard error, and metrics for Prometheus.
//!
//! The engine writes every line about a transaction inside a span `transaction{id=…}`, so it has its id:
//! in front of the message as text, and in `span` and `spans` as JSON.

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt::MakeWriter, layer::SubscriberExt as _,
};

use crate::config::{Config, LogFormat};

/// Writes log lines to standard error from now on, for the whole process.
///
/// Somebody else's subscriber, if one is set already, stays.
pub fn log(config: &Config) {
    let json = match *config.log_format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let subscriber = subscriber(&config.log, json, io::stderr);
    // An embedder or a test may have a subscriber of its own; its lines are as good.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Serves the process's metrics at `http://ADDRESS/metrics`. Must be called within a Tokio runtime,
/// and once.
///
/// # Errors
/// When the address can't be listened on, or metrics are served already.
pub fn serve_metrics(listen: SocketAddr) -> Result<(), BuildError> {
    PrometheusBuilder::new()
        .with_http_listener(listen)
        .install()
}

fn subscriber<W>(filter: &str, json: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if json {
        let lines = lines.json().flatten_event(true);
        lines.with_current_span(true).with_span_list(true).boxed()
    } else {
        lines.with_ansi(io::stderr().is_terminal()).boxed()
    };
    Registry::default().with(EnvFilter::new(filter)).with(lines)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(json: bool, work: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber("info", json, move || writer.clone());
        tracing::subscriber::with_default(subscriber, work);
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).expect("lines are text")
    }

    fn work() {
        let _transaction = tracing::info_span!("transaction", id = "order-7").entered();
        let _call = tracing::info_span!("call", branch = "b1").entered();
        tracing::warn!(attempt = 2, "no answer");
        tracing::debug!("left out");
    }

    #[test]
    fn a_json_line_has_its_transactions_id_inside_other_spans_too() {
        let line = written(true, work);
        let line: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(line["message"], "no answer");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["spans"][0]["name"], "transaction");
        assert_eq!(line["spans"][0]["id"], "order-7");
    }

    #[test]
    fn a_text_line_has_its_transactions_id() {
        let line = written(false, work);
        assert!(line.contains("transaction{id=\"order-7\"}"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}
