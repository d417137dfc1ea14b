//! Which way calls come to the accounts. The whole suite runs once over each.

use std::{env, process::Command};

const VARIABLE: &str = "TEST_TRANSPORT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The coordinator calls them at their addresses.
    Unary,
    /// They connect to the coordinator.
    Sessions,
}

impl Transport {
    /// Of all tests in this process.
    pub fn current() -> Self {
        match env::var(VARIABLE).as_deref() {
            Ok("sessions") => Self::Sessions,
            _ => Self::Unary,
        }
    }
}

/// Every other test once more, in a process whose accounts connect out.
#[test]
fn the_same_holds_over_sessions() {
    if Transport::current() == Transport::Sessions {
        return; // that process is this one
    }
    let mut again = Command::new(env::current_exe().unwrap());
    let output = again.env(VARIABLE, "sessions").output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "over sessions:\n{out}{err}");
}
