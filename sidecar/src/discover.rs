//! Services beside this process: ports are tried, and what answers is asked what it is.
//!
//! A service that lists its gRPC services by reflection, or its flights, is known by them; any other open port is `tcp`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use conveyor_proto::v1::FoundService;
use futures::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// Time between two looks at all ports.
const EVERY: Duration = Duration::from_secs(10);
/// Time for a port to take a connection.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
/// Time for a service to say what it is.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Ports tried at a time.
const AT_A_TIME: usize = 32;
/// Names that are taken from one service.
const MAX_NAMES: usize = 64;
/// What Arrow Flight is called in reflection.
const FLIGHT: &str = "arrow.flight.protocol.FlightService";

/// Looks at the ports again and again, and tells what it finds. Ends when nobody wants to know.
pub(crate) async fn keep_looking(
    ports: RangeInclusive<u16>,
    own: SocketAddr,
    found: watch::Sender<Vec<FoundService>>,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Both are cancel-safe: nothing is kept between two looks.
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = found.closed() => return,
        }
        let now = look(ports.clone(), own).await;
        found.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                before.clone_from(&now);
            }
            changed
        });
    }
}

/// One look at all ports of this host, in their order.
pub(crate) async fn look(ports: RangeInclusive<u16>, own: SocketAddr) -> Vec<FoundService> {
    let addresses = ports
        .filter(|port| *port != own.port())
        .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    futures::stream::iter(addresses.map(identify))
        .buffered(AT_A_TIME)
        .filter_map(|found| async move { found })
        .collect()
        .await
}

async fn identify(address: SocketAddr) -> Option<FoundService> {
    let open = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
    drop(open.ok()?.ok()?);
    let found = |protocol: &str, names: Vec<String>| {
        Some(FoundService { address: address.to_string(), protocol: protocol.into(), names })
    };
    let Some(channel) = channel(address).await else { return found("tcp", Vec::new()) };
    let services = timeout(ANSWER_WITHIN, services(channel.clone())).await.ok().flatten();
    if services.as_ref().is_none_or(|names| names.iter().any(|n| n == FLIGHT)) {
        let flights = timeout(ANSWER_WITHIN, conveyor_flight::flights(channel, MAX_NAMES)).await;
        if let Ok(Some(flights)) = flights {
            return found("arrow-flight", flights);
        }
    }
    match services {
        Some(names) => found("grpc", names),
        None => found("tcp", Vec::new()),
    }
}

async fn channel(address: SocketAddr) -> Option<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN);
    timeout(ANSWER_WITHIN, endpoint.connect()).await.ok()?.ok()
}

/// Names of a server's gRPC services, if it has reflection.
async fn services(channel: Channel) -> Option<Vec<String>> {
    let mut client = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.ok()?.into_inner();
    match answers.message().await.ok()??.message_response? {
        MessageResponse::ListServicesResponse(list) => {
            Some(list.service.into_iter().take(MAX_NAMES).map(|s| s.name).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_open_port_that_says_nothing_is_tcp_and_a_server_with_reflection_is_known_by_its_services() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent_port = silent.local_addr().unwrap().port();
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc_port = grpc.local_addr().unwrap().port();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .build_v1()
            .unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(grpc);
        let serving = tokio::spawn(
            tonic::transport::Server::builder().add_service(reflection).serve_with_incoming(incoming),
        );
        let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let found = look(silent_port..=silent_port, own).await;
        assert_eq!((found.len(), found[0].protocol.as_str()), (1, "tcp"));
        let found = look(grpc_port..=grpc_port, own).await;
        assert_eq!(found[0].protocol, "grpc");
        assert!(found[0].names.iter().any(|n| n.contains("ServerReflection")), "{found:?}");
        assert!(
            look(silent_port..=silent_port, silent.local_addr().unwrap()).await.is_empty(),
            "its own port"
        );
        serving.abort();
    }
}
