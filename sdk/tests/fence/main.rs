//! What every fence promises, whatever database it is in: one suite, every adapter.
//!
//! Memory is always tested, SQLite with the feature `sqlite`, PostgreSQL with the feature
//! `postgres`; the latter needs `TERCET_TEST_POSTGRES_URL` (a database whose user may create
//! schemas) and fails without it.

mod bench;
mod databases;
mod local;
mod remote;
mod rows;

/// Runs every promise against one database.
macro_rules! suite {
    ($adapter:ident, $database:ty) => {
        mod $adapter {
            use crate::{databases, local, remote, rows};
            suite! { @of $database; local:
                a_try_is_done_once_and_its_confirm_once,
                a_try_is_done_once_and_its_cancel_once,
                stock_is_conserved_under_concurrent_duplicates,
                a_late_try_after_its_cancel_has_no_effect,
                an_empty_cancel_succeeds_and_runs_no_business,
                try_and_cancel_at_once_leave_nothing_reserved,
                a_refused_try_rolls_back_and_leaves_no_row,
                an_error_of_the_database_is_never_a_refusal,
                a_panic_commits_nothing,
                a_refused_confirm_is_failed_and_leaves_the_branch_tried,
                a_confirm_without_a_try_is_an_error,
                a_confirm_and_a_cancel_never_both_take_effect,
                a_result_over_the_limit_is_an_error_and_reserves_nothing,
            }
            suite! { @of $database; rows:
                a_lower_epoch_is_an_error_and_a_higher_one_is_kept,
                an_expired_try_is_refused_unless_it_has_a_row,
                a_clock_set_back_does_not_reopen_a_collected_branch,
                only_finished_rows_are_collected_a_batch_at_a_time,
                a_crash_in_the_middle_leaves_nothing,
                branches_of_other_realms_and_longer_ids_are_other_branches,
            }
            suite! { @of $database; remote:
                remote_work_is_done_once_and_its_result_is_kept,
                slow_remote_work_is_processing_until_it_ends,
                a_try_that_ends_after_its_cancel_is_undone,
                a_cancel_and_a_finishing_job_never_leave_a_reservation,
                a_lost_job_is_started_again_by_the_next_call,
                a_cancel_undoes_a_try_that_a_crash_cut_off,
                a_refused_remote_try_is_kept_and_repeated_as_refused,
                an_error_of_remote_work_is_no_outcome_and_is_tried_again,
                a_job_of_another_process_that_ends_after_the_cancel_undoes_itself,
                an_undoing_that_fails_is_repeated,
                a_branch_of_one_resource_is_closed_to_others,
            }
        }
    };
    (@of $database:ty; $promises:ident: $($promise:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            $promises::$promise::<$database>().await;
        }
    )*};
}

suite!(memory, databases::Memory);
#[cfg(feature = "sqlite")]
suite!(sqlite, databases::Sqlite);
#[cfg(feature = "postgres")]
suite!(postgres, databases::Postgres);
