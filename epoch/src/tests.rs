//! The control loop against members made by hand.

mod conserve;
mod driver;
mod settings;
