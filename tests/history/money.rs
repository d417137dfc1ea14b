//! What participants hold: as much as at the start, nothing negative, and nothing for nobody.

use tercet_core::{check::Violation, operation::Operation};

use super::{Account, Evidence, Ledger, broken};

pub(super) fn violations(evidence: &Evidence<'_>) -> Vec<Violation> {
    let all_ended = evidence.ended.iter().all(|it| it.seen.state.is_terminal());
    let mut found = Vec::new();
    for ledger in evidence.ledgers {
        for account in &ledger.accounts {
            let name = format!("{} of {}", account.name, ledger.participant);
            if let Some(why) = imbalance(ledger, account) {
                found.push(broken("S10", format!("{name} {why}: {account:?}")));
            }
            if all_ended && account.held != 0 {
                let detail = format!("{name} is held for nobody: {account:?}");
                found.push(broken("L2", detail));
            }
        }
    }
    found
}

fn imbalance(ledger: &Ledger, account: &Account) -> Option<&'static str> {
    let Account {
        opening,
        free,
        held,
        used,
        ..
    } = *account;
    let sum = |operation| -> i64 {
        let effects = ledger.effects.iter();
        effects
            .filter(|it| it.account == account.name && it.operation == operation)
            .map(|it| it.amount)
            .sum()
    };
    let (tried, confirmed, canceled) = (
        sum(Operation::Try),
        sum(Operation::Confirm),
        sum(Operation::Cancel),
    );
    if free < 0 || held < 0 || used < 0 {
        Some("is negative")
    } else if free + held + used != opening {
        Some("is not conserved")
    } else if held != tried - confirmed - canceled || used != confirmed {
        Some("is not what its effects make of it")
    } else {
        None
    }
}
