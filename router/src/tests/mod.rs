//! Whole routers with sidecars that only pretend, over real connections on loopback.

mod connectors;
mod facade;
mod failures;
mod leaders;
mod lives;
mod many;
mod rest;
mod secure;
mod world;
