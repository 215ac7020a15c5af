//! Bridges, endpoints, rules and names.
