//! How the processes of a cluster listen to and reach each other: TLS that can be rotated, tokens, limits.
