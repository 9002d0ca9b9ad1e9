//! Edges between processes: frames over Arrow Flight, credits coming back.
