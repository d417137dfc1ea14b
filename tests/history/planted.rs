//! Each planted fault is found, and named.

use tercet_core::{
    fence,
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    transaction::{BranchState, State},
};

use super::{
    Account, Answer, Ended, EndedBranch, Evidence, FenceRow, History, IntendedBranch, Intent,
    Ledger, LedgerEffect, Seen, violations,
};

/// Two transactions that went well: `sold` was confirmed, `refused` was canceled after its Try.
struct Case {
    history: History,
    intents: Vec<Intent>,
    ended: Vec<Ended>,
    stock: Ledger,
}

const CONFIRMED: Seen = seen(State::Confirmed, Outcome::Success, 3);
const CANCELED: Seen = seen(State::Canceled, Outcome::Failed, 3);

const fn seen(state: State, outcome: Outcome, revision: u64) -> Seen {
    Seen {
        state,
        outcome,
        mode: ReplyMode::ThreeState,
        revision,
    }
}

impl Case {
    fn sound() -> Self {
        let mut case = Self {
            history: History::default(),
            intents: vec![intent("sold"), intent("refused")],
            ended: vec![
                ended("sold", CONFIRMED, BranchState::Confirmed),
                ended("refused", CANCELED, BranchState::Canceled),
            ],
            stock: Ledger {
                participant: "stock".into(),
                accounts: vec![Account {
                    name: "tea".into(),
                    opening: 10,
                    free: 8,
                    held: 0,
                    used: 2,
                }],
                effects: vec![
                    effect("sold", Operation::Try),
                    effect("refused", Operation::Try),
                    effect("sold", Operation::Confirm),
                    effect("refused", Operation::Cancel),
                ],
                rows: vec![
                    row("sold", fence::State::Confirmed),
                    row("refused", fence::State::Canceled),
                ],
            },
        };
        case.hear("sold", Answer::Shown(CONFIRMED));
        case.hear("refused", Answer::Unknown);
        case.hear("refused", Answer::Shown(CANCELED));
        case
    }

    fn hear(&mut self, id: &str, answer: Answer) {
        let call = self.history.invoke(id);
        self.history.answer(call, answer);
    }

    /// The invariants that are broken, in order, each once.
    fn found(&self) -> Vec<&'static str> {
        let ledgers = std::slice::from_ref(&self.stock);
        let found = violations(&Evidence {
            history: &self.history,
            intents: &self.intents,
            ended: &self.ended,
            ledgers,
        });
        let mut names: Vec<_> = found.iter().map(|it| it.invariant).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn intent(id: &str) -> Intent {
    Intent {
        id: id.into(),
        mode: ReplyMode::ThreeState,
        interactive: false,
        branches: vec![IntendedBranch {
            id: "b1".into(),
            participant: "stock".into(),
            account: "tea".into(),
            amount: 2,
        }],
    }
}

fn ended(id: &str, seen: Seen, branch: BranchState) -> Ended {
    Ended {
        id: id.into(),
        seen,
        branches: vec![EndedBranch {
            id: "b1".into(),
            participant: "stock".into(),
            state: branch,
        }],
        attention: None,
    }
}

fn effect(id: &str, operation: Operation) -> LedgerEffect {
    LedgerEffect {
        transaction: id.into(),
        branch: "b1".into(),
        operation,
        account: "tea".into(),
        amount: 2,
    }
}

fn row(id: &str, state: fence::State) -> FenceRow {
    FenceRow {
        transaction: id.into(),
        branch: "b1".into(),
        state,
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(Case::sound().found(), [""; 0]);
}

#[test]
fn an_accepted_transaction_that_is_gone_is_lost() {
    let mut case = Case::sound();
    case.intents.push(intent("gone"));
    case.hear("gone", Answer::Accepted);
    assert_eq!(case.found(), ["S1"]);
}

#[test]
fn an_accepted_transaction_is_not_found_by_nobody() {
    let mut case = Case::sound();
    case.hear("sold", Answer::NotFound);
    assert_eq!(case.found(), ["S1"]);
}

#[test]
fn not_found_may_come_late_from_a_call_that_was_made_before() {
    let mut case = Case::sound();
    case.history = History::default();
    let early = case.history.invoke("sold");
    case.hear("sold", Answer::Shown(CONFIRMED));
    case.history.answer(early, Answer::NotFound);
    case.hear("refused", Answer::Decided(Decision::Cancel));
    assert_eq!(case.found(), [""; 0]);
}

#[test]
fn what_was_only_ever_refused_does_not_exist() {
    let mut case = Case::sound();
    case.history = History::default();
    case.hear("sold", Answer::NotTaken);
    case.hear("refused", Answer::Shown(CANCELED));
    assert_eq!(case.found(), ["S1"]);
}

#[test]
fn a_confirm_after_a_cancel_is_an_effect_both_ways() {
    let mut case = Case::sound();
    case.stock
        .effects
        .push(effect("refused", Operation::Confirm));
    let found = case.found();
    assert!(found.contains(&"S2") && found.contains(&"S4"), "{found:?}");
}

#[test]
fn one_branch_confirmed_and_another_canceled_is_an_effect_both_ways() {
    let mut case = Case::sound();
    let mut second = case.intents[0].branches[0].clone();
    second.id = "b2".into();
    case.intents[0].branches.push(second);
    case.ended[0].branches.push(EndedBranch {
        id: "b2".into(),
        participant: "stock".into(),
        state: BranchState::Canceled,
    });
    for operation in [Operation::Try, Operation::Cancel] {
        case.stock.effects.push(LedgerEffect {
            branch: "b2".into(),
            ..effect("sold", operation)
        });
    }
    case.stock.rows.push(FenceRow {
        branch: "b2".into(),
        ..row("sold", fence::State::Canceled)
    });
    assert_eq!(case.found(), ["S2"]);
}

#[test]
fn a_decision_that_changes_is_found() {
    let mut case = Case::sound();
    case.hear("sold", Answer::Decided(Decision::Cancel));
    assert_eq!(case.found(), ["S3"]);
}

#[test]
fn an_outcome_that_flips_is_found() {
    let mut case = Case::sound();
    case.hear("refused", Answer::Shown(CONFIRMED));
    assert_eq!(case.found(), ["S3", "S8"]);
}

#[test]
fn success_before_every_confirm_is_said_too_early() {
    let mut case = Case::sound();
    let early = seen(State::Confirming, Outcome::Success, 2);
    let call = case.history.invoke("sold");
    case.history.answer(call, Answer::Shown(early));
    assert!(case.found().contains(&"S4"));
}

#[test]
fn success_without_a_confirm_is_found() {
    let mut case = Case::sound();
    case.stock.effects.remove(2);
    case.stock.rows[0].state = fence::State::Tried;
    case.stock.accounts[0].held = 2;
    case.stock.accounts[0].used = 0;
    assert_eq!(case.found(), ["L2", "S4"]);
}

#[test]
fn a_try_after_its_cancel_is_found() {
    let mut case = Case::sound();
    case.stock.effects.swap(1, 3);
    assert_eq!(case.found(), ["S5"]);
}

#[test]
fn a_cancel_without_its_tombstone_is_found() {
    let mut case = Case::sound();
    case.stock.rows.pop();
    assert_eq!(case.found(), ["S5"]);
}

#[test]
fn a_double_confirm_is_found() {
    let mut case = Case::sound();
    case.stock.effects.push(effect("sold", Operation::Confirm));
    case.stock.accounts[0].used = 4;
    case.stock.accounts[0].free = 6;
    let found = case.found();
    assert!(found.contains(&"S6"), "{found:?}");
}

#[test]
fn an_effect_without_a_record_is_found() {
    let mut case = Case::sound();
    case.ended.pop();
    case.history = History::default();
    case.hear("sold", Answer::Shown(CONFIRMED));
    assert_eq!(case.found(), ["S7"]);
}

#[test]
fn a_state_that_goes_back_is_found() {
    let mut case = Case::sound();
    let before = seen(State::Canceling, Outcome::Failed, 2);
    case.hear("refused", Answer::Shown(before));
    assert_eq!(case.found(), ["S8"]);
}

#[test]
fn two_readers_at_the_same_time_may_hear_in_any_order() {
    let mut case = Case::sound();
    case.history = History::default();
    let slow = case.history.invoke("sold");
    case.hear("sold", Answer::Shown(CONFIRMED));
    let before = seen(State::Confirming, Outcome::Processing, 2);
    case.history.answer(slow, Answer::Shown(before));
    case.hear("refused", Answer::Shown(CANCELED));
    assert_eq!(case.found(), [""; 0]);
}

#[test]
fn money_that_is_lost_is_missed() {
    let mut case = Case::sound();
    case.stock.accounts[0].free -= 1;
    assert_eq!(case.found(), ["S10"]);
}

#[test]
fn money_that_moved_without_an_effect_is_missed() {
    let mut case = Case::sound();
    case.stock.accounts[0].free += 1;
    case.stock.accounts[0].used -= 1;
    assert_eq!(case.found(), ["S10"]);
}

#[test]
fn other_content_under_an_id_is_found() {
    let mut case = Case::sound();
    case.intents[0].branches[0].amount = 3;
    assert_eq!(case.found(), ["S11"]);
    let mut case = Case::sound();
    case.ended[0].branches[0].id = "b9".into();
    assert!(case.found().contains(&"S11"));
}

#[test]
fn a_call_that_is_answered_with_what_somebody_else_sent_is_found() {
    let mut case = Case::sound();
    case.hear("sold", Answer::Merged);
    assert_eq!(case.found(), ["S11"]);
}

#[test]
fn one_of_two_meanings_of_an_id_is_enough() {
    let mut case = Case::sound();
    let mut other = intent("sold");
    other.branches[0].id = "x1".into();
    case.intents.push(other);
    assert_eq!(case.found(), [""; 0]);
    case.ended[0].branches[0].id = "b9".into();
    assert!(case.found().contains(&"S11"));
}

#[test]
fn a_transaction_that_stopped_needs_a_reason() {
    let mut case = Case::sound();
    case.intents.push(intent("stuck"));
    case.hear("stuck", Answer::Accepted);
    let trying = seen(State::Trying, Outcome::Processing, 1);
    case.ended.push(ended("stuck", trying, BranchState::Trying));
    assert_eq!(case.found(), ["L1"]);
    case.ended[2].attention = Some("RETRIES_EXCEEDED".into());
    assert_eq!(case.found(), [""; 0]);
}

#[test]
fn what_is_held_for_nobody_is_found() {
    let mut case = Case::sound();
    case.stock.effects.pop();
    case.stock.accounts[0].free -= 2;
    case.stock.accounts[0].held += 2;
    assert_eq!(case.found(), ["L2"]);
}
