//! The suite that every store passes.
//!
//! Each property is a function that takes a maker of empty stores; [`conformance_suite!`](crate::conformance_suite)
//! makes a test of each.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "tests: their names say what they check"
)]

mod claims;
mod duties;
mod events;
mod holds;
mod letters;
mod limits;
mod listeners;
mod model;
mod nodes;
mod pushes;
mod retention;
mod sinks;
mod tokens;
mod turns;

use std::{rc::Rc, sync::Arc};

pub use claims::*;
pub use duties::*;
pub use events::*;
pub use holds::*;
pub use letters::*;
pub use limits::*;
pub use listeners::*;
pub use model::*;
pub use nodes::*;
use ostler_model::{MachineId, RunState};
use proptest::prelude::ProptestConfig;
pub use pushes::*;
pub use retention::*;
pub use sinks::*;
pub use tokens::*;
pub use turns::*;

use crate::{
    Claim, Claimed, Command, Commit, CommitOutcome, EventBody, Letter, MachineRow, Micros, NewMachine,
    NewNode, Next, NodeId, Queries, Reply, StartOutcome, Store, StoreError, Writer,
};

/// Makes an empty store.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// Makes a test of each property, for a maker of empty stores; with `@when`, where a condition holds.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {
        $crate::conformance_suite!(@when true; $make);
    };
    (@when $condition:expr; $make:expr) => {
        $crate::conformance_suite! { @each $condition; $make;
            one_of_64_writers_wins_a_step
            a_step_that_came_back_conflicts
            large_steps_and_fences_are_told_as_they_are
            rows_are_taken_by_class_moment_and_age
            namespaces_take_turns
            namespaces_get_equal_time_whatever_their_runs_take
            weights_hold
            who_was_idle_does_not_take_everything
            a_low_class_keeps_its_part
            a_namespace_is_charged_what_its_claims_took
            a_machine_is_claimed_by_one_node
            nothing_is_claimed_before_its_moment
            many_due_at_once_are_all_claimed
            a_start_is_claimed_at_once_where_nothing_stands_before_it
            one_of_64_starts_with_a_unique_key_is_made
            an_idempotency_key_is_kept_after_the_end
            light_machines_are_claimed_apart_from_those_that_take_a_slot
            what_is_recorded_as_ended_never_ticks
            ids_grow_whatever_the_clock_does
            a_refused_command_does_not_harm_its_neighbours
            a_commit_writes_all_of_it_or_nothing
            letters_come_in_order_until_they_are_read
            a_letter_brings_forward_and_never_pushes_back
            a_letter_that_comes_during_a_tick_wakes_at_once
            wake_ups_are_never_lost
            letters_find_parts_watchers_and_watched
            letters_to_the_dead_are_told_so
            no_more_than_the_limit_at_a_time
            a_permit_goes_with_the_commit_or_stays
            a_kept_permit_lets_its_holder_go_on
            one_too_many_is_refused
            holders_are_asked_once_to_end
            a_full_limit_blocks_no_other
            a_full_lane_is_left_until_a_permit_comes_back
            a_higher_limit_opens_its_lanes
            what_goes_on_in_a_full_lane_is_found
            a_lane_whose_rate_is_used_up_is_left_until_then
            what_waits_for_a_limit_can_be_cancelled
            a_rate_lets_a_burst_through_and_then_its_interval
            a_rate_counts_starts_and_not_what_goes_on
            a_paused_task_begins_nothing
            a_paused_namespace_begins_nothing
            several_holds_are_let_go_one_by_one
            a_hold_waits_for_the_commit
            a_cancellation_passes_a_hold
            a_push_says_what_it_changed
            a_push_of_the_same_changes_nothing
            schedules_follow_their_task
            a_missing_task_holds_its_schedules_until_it_is_back
            a_partial_push_makes_nothing_missing
            a_forgotten_task_is_missing_until_it_is_pushed_again
            a_revoked_token_frees_its_name_and_stays_on_record
            presets_come_and_go
            who_listens_is_told_of_each_end_with_its_commit
            a_trigger_that_is_held_back_hears_nothing_of_what_a_duty_brings
            who_is_held_back_hears_nothing
            the_claims_of_a_dead_node_are_lost_and_found
            a_dead_holder_cannot_commit
            what_belonged_to_a_dead_guest_goes_to_all
            a_released_claim_is_not_lost
            a_closed_node_cannot_renew
            a_closed_node_takes_nothing
            a_node_takes_what_its_labels_fit
            a_node_may_take_only_what_asks_for_its_labels
            what_is_to_end_asks_for_no_label
            what_a_node_holds_is_told_as_it_was_claimed
            one_that_was_claimed_to_be_refused_stays_so
            a_worker_is_told_as_it_registered
            one_of_64_takers_has_a_duty
            a_duty_goes_to_another_when_its_node_is_gone
            a_lost_duty_sends_no_letters
            a_duty_is_left_moved_and_ended
            events_come_in_order_and_never_before_the_cursor
            a_history_is_told_from_the_oldest
            pages_are_complete_while_others_insert
            lists_show_the_states_asked_for
            the_oldest_that_is_ready_is_told_by_namespace
            prune_takes_bounded_batches_by_age
            prune_keeps_so_many
            prune_waits_for_the_parts
            prune_trims_what_lives
            prune_leaves_what_has_still_to_be_sent
            a_sink_begins_now_and_goes_on_where_it_was
            a_paused_sink_is_nobodys
            what_events_are_about_is_told
            any_history_keeps_the_promises
        }
    };
    (@each $condition:expr; $make:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                if $condition {
                    $crate::conformance::$name(&$make);
                }
            }
        )*
    };
}

/// The moment at which tests begin.
const START: Micros = 1_795_000_000_000_000;
const SECOND: Micros = 1_000_000;

/// So many random cases, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(otherwise: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A store with a clock and a node.
struct Kit {
    store: Box<dyn Store>,
    reader: Rc<dyn Queries>,
    now: Micros,
    node: NodeId,
}

impl Kit {
    fn new(make: Make<'_>) -> Self {
        let store = make();
        let reader = Rc::from(store.queries().unwrap());
        let mut kit = Self { store, reader, now: START, node: NodeId(0) };
        kit.node = kit.register(true);
        kit
    }

    fn ask(&mut self, command: Command) -> Result<Reply, StoreError> {
        self.store.apply(self.now, &[command]).pop().unwrap()
    }

    fn register(&mut self, owner: bool) -> NodeId {
        match self.ask(Command::Register(NewNode { name: "host:1".into(), owner, ..NewNode::default() })) {
            Ok(Reply::Node(node)) => node,
            other => panic!("{other:?}"),
        }
    }

    fn outcome(&mut self, machine: NewMachine) -> StartOutcome {
        match self.ask(Command::Start(vec![machine])) {
            Ok(Reply::Started(outcomes)) => outcomes[0],
            other => panic!("{other:?}"),
        }
    }

    fn start(&mut self, machine: NewMachine) -> MachineId {
        match self.outcome(machine) {
            StartOutcome::Started(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn claim_as(&mut self, node: NodeId, want: u32, shared: bool) -> Vec<Claimed> {
        match self.ask(Command::Claim(Claim {
            node,
            want,
            light: want,
            shared,
            labels: Vec::new(),
            only_labelled: false,
        })) {
            Ok(Reply::Claimed(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, want: u32) -> Vec<Claimed> {
        self.claim_as(self.node, want, true)
    }

    fn claim_ids(&mut self, want: u32) -> Vec<MachineId> {
        self.claim(want).into_iter().map(|row| row.id).collect()
    }

    fn claim_one(&mut self) -> Claimed {
        let mut rows = self.claim(2);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.remove(0)
    }

    fn commit(&mut self, commit: Commit) -> CommitOutcome {
        match self.ask(Command::Commit(vec![commit])) {
            Ok(Reply::Committed(mut outcomes)) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn must(&mut self, commit: Commit) -> Vec<StartOutcome> {
        match self.commit(commit) {
            CommitOutcome::Committed { started } => started,
            other => panic!("{other:?}"),
        }
    }

    fn stay(&mut self, row: &Claimed, until: Micros) {
        let commit = tick(self.node, row, Next::Stay { until, keep_permit: false });
        self.must(commit);
    }

    fn keep(&mut self, row: &Claimed, until: Micros) {
        let commit = tick(self.node, row, Next::Stay { until, keep_permit: true });
        self.must(commit);
    }

    fn end(&mut self, row: &Claimed) {
        let commit = tick(self.node, row, Next::End { state: RunState::Succeeded.code() });
        self.must(commit);
    }

    fn send(&mut self, machine: MachineId, letter: Letter) -> bool {
        match self.ask(Command::Send(vec![(machine, letter)])) {
            Ok(Reply::Sent(alive)) => alive[0],
            other => panic!("{other:?}"),
        }
    }

    fn queries(&self) -> Rc<dyn Queries> {
        self.reader.clone()
    }

    fn row(&self, id: MachineId) -> MachineRow {
        self.queries().machine(id).unwrap().unwrap()
    }

    fn state(&self, id: MachineId) -> RunState {
        self.row(id).run_state()
    }
}

/// A run that is due.
fn run() -> NewMachine {
    NewMachine {
        kind: 1,
        namespace: "default".into(),
        fields: "{}".into(),
        priority: 1,
        due_at: START,
        event: EventBody { kind: "created".into(), body: String::new() },
        ..NewMachine::default()
    }
}

/// The commit of a tick that has read all letters.
fn tick(node: NodeId, row: &Claimed, next: Next) -> Commit {
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: None,
        next,
        started_at: Some(row.due_at),
        took: 0,
        event: EventBody { kind: "ticked".into(), body: String::new() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: row.mail.last().map(|(seq, _)| *seq),
    }
}

fn signal(name: &str) -> Letter {
    Letter::Signal { name: name.into(), body: String::new() }
}

fn cancel() -> Letter {
    Letter::Cancel { reason: "enough".into() }
}

/// A store on a writer's thread.
fn on_a_thread(kit: Kit) -> Writer {
    let now = kit.now;
    Writer::start(kit.store, Arc::new(move || now)).unwrap().0
}
