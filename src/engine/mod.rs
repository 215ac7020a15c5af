//! The real host: containers, volumes, state, events, health, logs.
