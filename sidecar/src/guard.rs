//! Who may call which part of the Arrow Flight service.

use std::task::{Context, Poll};

use conveyor_net::{Access, Denied, Guard, PeerInfo, Role};
use futures::future::{Either, Ready, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response, header::AUTHORIZATION};

/// Puts the guard in front of a service.
#[derive(Clone)]
pub(crate) struct GuardLayer(pub(crate) Guard);

impl<S> tower::Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.0.clone(), inner }
    }
}

/// A service behind the guard.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S> Guarded<S> {
    fn check<B>(&self, request: &Request<B>) -> Result<(), Denied> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        // Rows between tasks: for sidecars alone, and a token does not help.
        if method == "DoExchange" {
            let info = request.extensions().get::<PeerInfo>();
            return self.guard.peer(info, &[Role::Sidecar]).map(drop);
        }
        let needed = if method == "DoPut" { Access::Operator } else { Access::Viewer };
        let header = match request.headers().get(AUTHORIZATION) {
            Some(value) => {
                Some(value.to_str().map_err(|_| Denied::Unauthenticated("the authorization is not text"))?)
            }
            None => None,
        };
        self.guard.user(header, needed).map(drop)
    }
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(denied) => Either::Right(ready(Ok(Status::from(denied).into_http()))),
        }
    }
}
