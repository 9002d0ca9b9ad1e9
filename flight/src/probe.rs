//! Asks a server whether it is an Arrow Flight service, and what it offers.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Criteria, FlightInfo};
use tonic::Code;
use tonic::transport::Channel;

/// Names of the flights of a server, at most `most`: the path or the command of each. None if it is no Arrow Flight service; a
/// service that does not list its flights, or not to strangers, has no names.
pub async fn flights(channel: Channel, most: usize) -> Option<Vec<String>> {
    let mut client = FlightServiceClient::new(channel);
    let mut listed = match client.list_flights(Criteria::default()).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => {
            let speaks = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
            // An unknown service and a call that a Flight service does not offer have the same code; only the latter says so.
            let lacks = status.code() == Code::Unimplemented && !status.message().is_empty();
            return (speaks || lacks).then(Vec::new);
        }
    };
    let mut names = Vec::new();
    while names.len() < most
        && let Ok(Some(flight)) = listed.message().await
    {
        names.push(name(flight));
    }
    Some(names)
}

fn name(flight: FlightInfo) -> String {
    let Some(descriptor) = flight.flight_descriptor else { return String::new() };
    if descriptor.path.is_empty() {
        String::from_utf8_lossy(&descriptor.cmd).into_owned()
    } else {
        descriptor.path.join("/")
    }
}
