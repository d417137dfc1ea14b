//! Pages of one transaction's timeline.
//!
//! A long history loses its oldest lines while a client turns its pages. So a page begins at a revision
//! and at so many of its lines counted from their end: neither moves when lines are dropped before it.

use super::page::Place;
use crate::store::HistoryEvent;

/// One page, and where the next begins; none when this is the last.
pub(super) fn page(
    history: &[HistoryEvent],
    from: Option<Place>,
    size: usize,
) -> (&[HistoryEvent], Option<Place>) {
    let first = from.map_or(0, |from| index(history, from));
    let end = history.len().min(first.saturating_add(size));
    let page = &history[first..end];
    let next = page.last().filter(|_| end < history.len()).map(|last| {
        let left = end_of(history, last.revision) - end;
        (last.revision, left as u64)
    });
    (page, next)
}

fn index(history: &[HistoryEvent], (revision, left): Place) -> usize {
    let begin = history.partition_point(|line| line.revision < revision);
    let end = end_of(history, revision);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    end.saturating_sub(left).max(begin)
}

fn end_of(history: &[HistoryEvent], revision: u64) -> usize {
    history.partition_point(|line| line.revision <= revision)
}

#[cfg(test)]
mod tests {
    use tercet_core::{step::Event, transaction::State};

    use super::*;

    fn history(revisions: &[u64]) -> Vec<HistoryEvent> {
        let line = |(at, revision): (usize, &u64)| HistoryEvent {
            revision: *revision,
            event_ms: i64::try_from(at).expect("small"),
            event: Event {
                branch: None,
                call: None,
                outcome: None,
                state: State::Trying,
                branch_state: None,
                failure: None,
            },
            latency_ms: None,
            actor: "client".into(),
        };
        revisions.iter().enumerate().map(line).collect()
    }

    #[test]
    fn pages_hold_every_line_once_even_when_a_revision_is_split() {
        let history = history(&[1, 2, 2, 2, 2, 3, 5]);
        for size in 1..=8 {
            let mut seen = Vec::new();
            let mut from = None;
            loop {
                let (lines, next) = page(&history, from, size);
                seen.extend_from_slice(lines);
                from = next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(seen, history, "pages of {size}");
        }
    }

    #[test]
    fn lines_dropped_between_two_pages_are_missing_but_none_comes_twice() {
        let whole = history(&[1, 2, 2, 2, 3]);
        let (_, next) = page(&whole, None, 3);
        assert_eq!(page(&whole[2..], next, 9).0, &whole[3..]);
        assert_eq!(page(&whole[4..], next, 9).0, &whole[4..]);
        assert_eq!(page(&[], next, 9).0, &[]);
    }
}
