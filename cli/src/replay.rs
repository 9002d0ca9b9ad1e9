//! Replay of dead letters: which rows, under which plan, from which source.

pub mod letters_file;
pub mod plan;
pub mod source;
