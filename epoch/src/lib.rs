//! The life of a pipeline's epochs, from begin to clean-up: one control loop for `run` and for the routers.
