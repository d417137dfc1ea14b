//! What is measured of calls, as Prometheus shows it.

use metrics_exporter_prometheus::PrometheusBuilder;
use prost::bytes::Bytes;
use tercet::participants::{Connector, GrpcParticipants, Participants as _, measure};
use tercet_core::{operation::Operation, transaction::Target};
use tonic::Response;

use crate::support::{
    Existing, Shop, Stub, closed_port, config, outgoing, shop_methods, stock, url,
};

#[tokio::test]
async fn latency_by_participant_up_to_p999_and_what_stayed_open() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    measure::describe();

    let (_, address) = Stub::default().serve().await;
    let direct = Existing::<Shop>::serve(|_: &str, _| Ok(Response::new(Bytes::new()))).await;
    let mut config = config(&[address]);
    config.allowed_endpoints.push(url(direct));
    let calls = GrpcParticipants::new(&config, Connector::tcp()).unwrap();
    calls.perform(outgoing(Operation::Try, stock())).await;
    calls.query(outgoing(Operation::Try, stock())).await;
    let target = Target::Methods(shop_methods(&url(direct)));
    calls.perform(outgoing(Operation::Cancel, target)).await;
    config = crate::support::config(&[closed_port().await]);
    calls.replace(&config).unwrap();
    calls.perform(outgoing(Operation::Confirm, stock())).await;

    let shown = prometheus.render();
    for (participant, operation, outcome) in [
        ("stock", "try", "success"),
        ("stock", "query", "unclear"),
        ("uri", "cancel", "success"),
        ("stock", "confirm", "indeterminate"),
    ] {
        let labels = format!(
            "{{participant=\"{participant}\",operation=\"{operation}\",outcome=\"{outcome}\""
        );
        let count = format!("{}_count{labels}}} 1", measure::CALL_SECONDS);
        assert!(shown.contains(&count), "{count} in\n{shown}");
        let p999 = format!("{}{labels},quantile=\"0.999\"}}", measure::CALL_SECONDS);
        assert!(shown.contains(&p999), "{p999} in\n{shown}");
    }
    let open = format!(
        "{}{{participant=\"stock\",operation=\"confirm\",reason=\"UNAVAILABLE\"}} 1",
        measure::INDETERMINATE
    );
    assert!(shown.contains(&open), "{open} in\n{shown}");
}
