use std::sync::LazyLock;

use tracing::info_span;
use tracing_subscriber::Registry;

use super::super::shard::MAX_YOUNG;
use super::super::spans::KEPT_CAPACITY;
use super::*;
use crate::limits::Limits;
use crate::record::encode::kind_and_id;

const TRACKED: Tracked = Tracked {
    kinds: [true, true, false],
    events_that_are_runs: false,
};

fn table() -> Arc<Open> {
    Open::new(0, TRACKED, Arc::default(), Box::new(|_, _| ()))
}

/// Returns the number of a span that a thread has opened.
fn id(thread: u64, place: u64) -> Id {
    Id::from_u64((thread << THREAD_BITS) + place + 1)
}

/// The callsite of the spans in the table, and another one.
static CALLSITES: LazyLock<[&Metadata<'_>; 2]> = LazyLock::new(|| {
    tracing::subscriber::with_default(Registry::default(), || {
        [info_span!("kept"), info_span!("other")].map(|span| span.metadata().unwrap())
    })
});

/// Stores a span of this kind and returns its record's id.
fn keep(open: &Arc<Open>, id: &Id, kind: Option<Kind>, parent: Option<&Id>) -> Uuid {
    // As the layer does.
    open.forget_earlier(id);
    let active = host::Active::default();
    let mut state = SpanState::begin(Limits::default(), kind, active);
    state.metadata = Some(CALLSITES[0]);
    let uuid = state.id;
    let parent = parent.map(|parent| (parent, state.metadata));
    open.keep(id, state, parent, active, || None::<SpanRef<'_, Registry>>);
    uuid
}

fn look(open: &Open, every: bool) -> Vec<Uuid> {
    let mut begun = Vec::new();
    open.look(every, &mut begun);
    for (id, frame) in &begun {
        assert_eq!(kind_and_id(frame).map(|(_, id)| id), Some(*id));
    }
    begun.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn run_in_flight_over_two_polls_is_reported_once() {
    let open = table();
    let (short, long) = (id(1, 1), id(2, 1));
    keep(&open, &short, Some(Kind::QueryRun), None);
    let goes_on = keep(&open, &long, Some(Kind::PromptRun), None);
    // Not reported: a run of a kind that is not tracked, and a span without a record.
    keep(&open, &id(1, 2), Some(Kind::Event), None);
    keep(&open, &id(1, 3), None, None);
    assert!(look(&open, false).is_empty());
    assert!(open.take(&short).is_some());
    assert_eq!(look(&open, false), [goes_on]);
    assert!(look(&open, false).is_empty() && look(&open, true).is_empty());
    assert!(open.take(&long).unwrap().is_begun);
}

#[test]
fn last_poll_reports_every_unreported_run() {
    let open = table();
    let mut ids: Vec<_> = (0..100)
        .map(|n| keep(&open, &id(n, n), Some(Kind::QueryRun), None))
        .collect();
    let mut seen = look(&open, true);
    ids.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, ids);
}

#[test]
fn list_of_young_runs_is_bounded_and_a_poll_finds_every_run_in_flight() {
    let open = table();
    let goes_on = keep(&open, &id(1, 0), Some(Kind::QueryRun), None);
    for place in 1..=2 * MAX_YOUNG as u64 {
        keep(&open, &id(1, place), Some(Kind::QueryRun), None);
        open.take(&id(1, place)).unwrap().recycle();
    }
    let last = keep(&open, &id(1, 9), Some(Kind::QueryRun), None);
    let young = |open: &Open| open.shard(id(1, 0).into_u64()).unwrap().young.len();
    assert_eq!(young(&open), MAX_YOUNG);
    let mut seen = look(&open, false);
    seen.sort_unstable();
    assert_eq!(seen, [goes_on, last]);
    assert_eq!(young(&open), 0);
}

#[test]
fn span_inherits_from_a_parent_that_another_thread_opened() {
    let open = table();
    for (parent, child) in [(id(1, 1), id(1, 2)), (id(2, 1), id(3, 1))] {
        let outer = keep(&open, &parent, Some(Kind::QueryRun), None);
        let inner = keep(&open, &child, Some(Kind::QueryRun), Some(&parent));
        let header = open.with(&child, |state| state.header_of_beginning(Kind::QueryRun));
        let header = header.unwrap();
        assert_eq!(
            (header.id, header.parent, header.root),
            (inner, outer, outer)
        );
    }
}

#[test]
fn reused_span_id_is_a_new_span() {
    let open = table();
    keep(&open, &id(1, 1), Some(Kind::QueryRun), None);
    let second = keep(&open, &id(1, 1), Some(Kind::QueryRun), None);
    assert_eq!(open.take(&id(1, 1)).unwrap().id, second);
    assert!(open.take(&id(1, 1)).is_none() && open.with(&id(1, 1), |_| ()).is_none());
}

#[test]
fn record_with_a_missed_close_is_counted_as_dropped_unless_the_spool_has_its_begin() {
    let open = table();
    let lose = |kind, is_begun| {
        keep(&open, &id(1, 1), kind, None);
        open.with(&id(1, 1), |state| state.is_begun = is_begun);
    };
    for kind in [Some(Kind::QueryRun), Some(Kind::Event), None] {
        lose(kind, false);
    }
    // Found when the number is reused, and when the other span is looked up.
    keep(&open, &id(1, 1), None, None);
    lose(Some(Kind::QueryRun), false);
    let other = Some(CALLSITES[1]);
    assert!(open.with_of(&id(1, 1), other, |_| ()).is_none());
    lose(Some(Kind::QueryRun), true);
    keep(&open, &id(1, 1), None, None);
    let losses = open.counters.take_losses();
    assert_eq!(losses.len(), 1);
    assert_eq!(
        (losses[0].cause, losses[0].kinds),
        (DropCause::EndUnseen, [2, 0, 1])
    );
}

#[test]
fn unrecorded_span_does_not_get_the_stale_state_of_its_reused_id() {
    let open = table();
    let [kept, other] = CALLSITES.map(Some);
    let left = keep(&open, &id(1, 1), Some(Kind::QueryRun), None);
    let seen = open.with_of(&id(1, 1), kept, |state| state.id);
    assert_eq!(seen, Some(left));
    assert!(open.with_of(&id(1, 1), other, |_| ()).is_none());
    assert!(open.take(&id(1, 1)).is_none());
    // The same for the parent of a new span.
    for (parent, metadata) in [(id(1, 1), other), (id(2, 1), other), (id(2, 1), None)] {
        keep(&open, &parent, Some(Kind::QueryRun), None);
        let active = host::Active::default();
        let state = SpanState::begin(Limits::default(), Some(Kind::QueryRun), active);
        let (child, nobody) = (id(1, 2), || None::<SpanRef<'_, Registry>>);
        open.keep(&child, state, Some((&parent, metadata)), active, nobody);
        let state = open.take(&child).unwrap();
        assert!(state.header_of_beginning(Kind::QueryRun).parent.is_nil());
        assert!(open.take(&parent).is_none());
    }
}

#[test]
fn locked_slot_of_the_list_is_skipped_without_waiting() {
    let subscriber = Dispatch::new(Registry::default());
    let span = tracing::dispatcher::with_default(&subscriber, || info_span!("kept"));
    let found = || {
        let registry = subscriber.downcast_ref::<Registry>().unwrap();
        of(registry, &registry.span(&span.id().unwrap()).unwrap()).len()
    };
    let places: Vec<_> = LISTED.iter().map(|place| place.table.read()).collect();
    let open = table();
    open.attach_to(&subscriber);
    assert!(!open.is_listed() && found() == 0);
    drop(places);
    open.attach_to(&subscriber);
    assert_eq!(found(), 1);
    let place = open.place.load(Ordering::Relaxed);
    let held = LISTED[place].table.write();
    assert_eq!(found(), 0);
    drop(held);
    drop(open);
    assert_eq!(found(), 0);
}

#[test]
fn memory_is_released_after_a_burst_of_open_spans() {
    let open = table();
    let ids: Vec<_> = (0..10_000).map(|place| id(1, place)).collect();
    for id in &ids {
        keep(&open, id, None, None);
    }
    for id in &ids {
        open.take(id);
    }
    let capacity = open.shard(id(1, 0).into_u64()).unwrap().spans.capacity();
    assert!(capacity <= KEPT_CAPACITY, "{capacity}");
}

#[test]
fn caller_waiting_for_a_record_is_notified_when_its_close_was_missed() {
    let (tell, told) = std::sync::mpsc::channel();
    let unseen = move |kind, id| tell.send((kind, id)).unwrap();
    let open = Open::new(0, TRACKED, Arc::default(), Box::new(unseen));
    let number = id(1, 1);
    let first = keep(&open, &number, Some(Kind::QueryRun), None);
    assert!(told.try_recv().is_err());
    // The number is reused although the close of the first was missed.
    let second = keep(&open, &number, Some(Kind::Event), None);
    assert_eq!(told.try_recv(), Ok((Kind::QueryRun, first)));
    // So is one whose last bits are the same, which has no state.
    let similar = id(1, 1 + 64);
    open.forget_earlier(&similar);
    assert!(open.may_have(&similar) && open.take(&similar).is_none());
    open.take(&number).unwrap().recycle();
    assert!(!open.may_have(&number));
    assert!(told.try_recv().is_err());
    assert_ne!(first, second);
}

#[test]
fn thread_that_is_suspended_within_the_table_hides_its_own_runs_alone() {
    let open = table();
    let [held, other] =
        [1, 2].map(|thread| keep(&open, &id(thread, 1), Some(Kind::QueryRun), None));
    // Both are looked at from the next time on.
    assert!(look(&open, false).is_empty());
    let suspended = open.shard(id(1, 1).into_u64()).unwrap();
    assert_eq!(look(&open, false), [other]);
    drop(suspended);
    assert_eq!(look(&open, false), [held]);
    // Taken away in between: all runs are looked at again, each told once.
    let late = keep(&open, &id(1, 2), Some(Kind::QueryRun), None);
    open.part(id(1, 1).into_u64()).overlook();
    assert_eq!(look(&open, false), [late]);
    assert!(look(&open, true).is_empty());
}
