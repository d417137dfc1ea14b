//! The scenarios.

use tercet_core::outcome::ReplyMode::{Accepted, ThreeState, TwoState};

use crate::scenario::Scenario;

pub(crate) const SUBMITTED: Scenario = Scenario {
    name: "submitted, three-state",
    mode: ThreeState,
    interactive: false,
    branches: 2,
    remote: [false; 3],
    operator: false,
    slow_store: false,
    takeover: false,
    copied: false,
    collects: false,
    restores: false,
    lies: false,
    fault: None,
};

pub(crate) const SUBMITTED_TWO_STATE: Scenario = Scenario {
    name: "submitted, two-state",
    mode: TwoState,
    ..SUBMITTED
};

pub(crate) const SUBMITTED_REMOTE: Scenario = Scenario {
    name: "submitted, accepted, remote work",
    mode: Accepted,
    remote: [false, true, false],
    ..SUBMITTED
};

pub(crate) const SUBMITTED_TWO_STATE_REMOTE: Scenario = Scenario {
    name: "submitted, two-state, remote work",
    mode: TwoState,
    ..SUBMITTED_REMOTE
};

pub(crate) const INTERACTIVE: Scenario = Scenario {
    name: "interactive, three-state",
    interactive: true,
    ..SUBMITTED
};

pub(crate) const INTERACTIVE_TWO_STATE: Scenario = Scenario {
    name: "interactive, two-state",
    mode: TwoState,
    ..INTERACTIVE
};

pub(crate) const INTERACTIVE_REMOTE: Scenario = Scenario {
    name: "interactive, accepted, remote work",
    interactive: true,
    ..SUBMITTED_REMOTE
};

pub(crate) const OPERATED_TWO_STATE: Scenario = Scenario {
    name: "submitted, two-state, operator",
    operator: true,
    ..SUBMITTED_TWO_STATE
};

pub(crate) const OPERATED_INTERACTIVE: Scenario = Scenario {
    name: "interactive, three-state, operator",
    operator: true,
    ..INTERACTIVE
};

pub(crate) const OPERATED_REMOTE: Scenario = Scenario {
    name: "submitted, three-state, operator, remote work",
    mode: ThreeState,
    operator: true,
    ..SUBMITTED_REMOTE
};

pub(crate) const SLOW_STORE: Scenario = Scenario {
    name: "submitted, two-state, slow store",
    slow_store: true,
    ..SUBMITTED_TWO_STATE
};

pub(crate) const SLOW_STORE_INTERACTIVE: Scenario = Scenario {
    name: "interactive, three-state, slow store",
    slow_store: true,
    ..INTERACTIVE
};

pub(crate) const TAKEN_OVER: Scenario = Scenario {
    name: "submitted, three-state, takeover",
    takeover: true,
    ..SUBMITTED
};

pub(crate) const COPIED: Scenario = Scenario {
    name: "submitted, one branch, takeover with an older copy",
    branches: 1,
    copied: true,
    ..TAKEN_OVER
};

pub(crate) const COPIED_REMOTE: Scenario = Scenario {
    name: "submitted, one branch, remote work, takeover with an older copy",
    remote: [true, false, false],
    ..COPIED
};

pub(crate) const COLLECTED: Scenario = Scenario {
    name: "submitted, three-state, rows collected",
    collects: true,
    ..SUBMITTED
};

pub(crate) const COLLECTED_REMOTE: Scenario = Scenario {
    name: "submitted, one branch, remote work, rows collected",
    branches: 1,
    remote: [true, false, false],
    ..COLLECTED
};

pub(crate) const RESTORED: Scenario = Scenario {
    name: "submitted, three-state, a reservation lost",
    restores: true,
    ..SUBMITTED
};

pub(crate) const LIED_TO: Scenario = Scenario {
    name: "submitted, three-state, a Query that lies",
    lies: true,
    ..SUBMITTED
};

pub(crate) const LIED_TO_REMOTE: Scenario = Scenario {
    name: "submitted, one branch, remote work, a Query that lies",
    branches: 1,
    remote: [true, false, false],
    ..LIED_TO
};

/// All that `cargo test` explores.
pub(crate) const ALL: [Scenario; 20] = [
    SUBMITTED,
    SUBMITTED_TWO_STATE,
    SUBMITTED_REMOTE,
    SUBMITTED_TWO_STATE_REMOTE,
    INTERACTIVE,
    INTERACTIVE_TWO_STATE,
    INTERACTIVE_REMOTE,
    OPERATED_TWO_STATE,
    OPERATED_INTERACTIVE,
    OPERATED_REMOTE,
    SLOW_STORE,
    SLOW_STORE_INTERACTIVE,
    TAKEN_OVER,
    COPIED,
    COPIED_REMOTE,
    COLLECTED,
    COLLECTED_REMOTE,
    RESTORED,
    LIED_TO,
    LIED_TO_REMOTE,
];

/// The larger bound: three branches, and what is apart above taken together.
pub(crate) const LARGE: [Scenario; 6] = [
    Scenario {
        name: "large: submitted, three-state, three branches",
        branches: 3,
        ..SUBMITTED
    },
    Scenario {
        name: "large: submitted, three-state, takeover, remote work",
        remote: [false, true, false],
        ..TAKEN_OVER
    },
    Scenario {
        name: "large: submitted, three-state, rows collected, remote work",
        remote: [false, true, false],
        ..COLLECTED
    },
    Scenario {
        name: "large: submitted, three-state, remote work, a Query that lies",
        remote: [false, true, false],
        ..LIED_TO
    },
    Scenario {
        name: "large: submitted, two-state, remote work on both sides",
        remote: [true, true, false],
        ..SUBMITTED_TWO_STATE
    },
    Scenario {
        name: "large: interactive, accepted, operator, remote work, slow store",
        operator: true,
        slow_store: true,
        ..INTERACTIVE_REMOTE
    },
];
