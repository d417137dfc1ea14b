//! The participant's side of the protocol, as one pure rule.
