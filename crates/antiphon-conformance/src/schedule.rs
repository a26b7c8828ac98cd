//! Capability: recurring calls.

use crate::Harness;
use crate::scene::{Scene, wall_ms};
use antiphon_broker::Support;
use antiphon_protocol::{
    Answer, Change, Code, ContentType, Misfire, Overlap, Query, Recurrence, Route, Schedule, ScheduleStatus,
};

fn every_second(scene: &Scene) -> Schedule {
    Schedule {
        name: scene.name("schedule"),
        recurrence: Recurrence::Every(1_000),
        route: Route::new(scene.name("tick")),
        content_type: ContentType::Json,
        arguments: b"[7]".to_vec(),
        overlap: Overlap::Allow,
        misfire: Misfire::Once,
    }
}

async fn ask(scene: &Scene, query: Query) -> Answer {
    let inspect = scene.broker.inspect().expect("who has schedules answers questions");
    inspect.ask(query).await.unwrap_or_else(|failure| panic!("a question that is understood: {failure}"))
}

/// Without the capability schedules are refused rather than ignored; `true` when the rule ends here.
async fn is_refused(scene: &Scene) -> bool {
    if scene.capabilities().schedules != Support::Refused {
        return false;
    }
    if scene.broker.inspect().is_some() {
        let name = scene.name("schedule");
        let queries = [
            Query::Schedule(Box::new(every_second(scene))),
            Query::Unschedule(name.clone()),
            Query::PauseSchedule { name, paused: true },
            Query::Schedules,
        ];
        for query in queries {
            let answer = ask(scene, query).await;
            let refused = matches!(answer, Answer::Refused { code: Code::Unimplemented, .. });
            assert!(refused, "a broker without schedules refuses them: {answer:?}");
        }
    }
    true
}

/// Where this rule's schedule stands, among those of others.
async fn listed(scene: &Scene) -> Option<ScheduleStatus> {
    match ask(scene, Query::Schedules).await {
        Answer::Schedules(all) => all.into_iter().find(|it| it.schedule.name == scene.name("schedule")),
        other => panic!("schedules, not {other:?}"),
    }
}

/// Each tick makes one call with the schedule's arguments, which is named where the schedule is listed.
pub async fn a_schedule_calls_at_its_ticks(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if is_refused(&scene).await {
        return;
    }
    let worker = scene.worker(&["tick"], 2).await;
    let added = wall_ms();
    let schedule = every_second(&scene);
    assert_eq!(ask(&scene, Query::Schedule(Box::new(schedule.clone()))).await, Answer::Changed(Change::Added));
    assert_eq!(ask(&scene, Query::Schedule(Box::new(schedule))).await, Answer::Changed(Change::Unchanged));
    let first = worker.lease().await;
    assert!(wall_ms() >= added + 1_000, "the first tick is an interval after it was added");
    assert_eq!(first.payload.bytes.as_ref(), b"[7]");
    let standing = listed(&scene).await.expect("it is listed");
    assert_eq!(standing.last_call, Some(first.call));
    assert!(standing.next_ms.first().is_some_and(|next| *next > standing.last_ms));
    worker.echo(&first).await;
    let second = worker.lease().await;
    assert_ne!(second.call, first.call, "each tick is a call of its own");
    worker.echo(&second).await;
    let name = scene.name("schedule");
    assert_eq!(ask(&scene, Query::Unschedule(name)).await, Answer::Changed(Change::Removed));
    assert_eq!(listed(&scene).await, None);
}

/// What cannot be a schedule is refused, and what is not there cannot be changed.
pub async fn a_schedule_that_cannot_be_is_refused(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if is_refused(&scene).await {
        return;
    }
    let cron = |expression: &str, zone: &str| Recurrence::Cron { expression: expression.into(), zone: zone.into() };
    for recurrence in [Recurrence::Every(1), cron("99 * * * *", "UTC"), cron("0 9 * * *", "Mars/Olympus")] {
        let schedule = Schedule { recurrence: recurrence.clone(), ..every_second(&scene) };
        match ask(&scene, Query::Schedule(Box::new(schedule))).await {
            Answer::Refused { code, .. } => assert_eq!(code, Code::InvalidArgument, "{recurrence:?}"),
            other => panic!("{recurrence:?} is refused, not {other:?}"),
        }
    }
    let name = scene.name("schedule");
    for query in [Query::Unschedule(name.clone()), Query::PauseSchedule { name, paused: true }] {
        let answer = ask(&scene, query).await;
        assert!(matches!(answer, Answer::Refused { code: Code::NotFound, .. }), "{answer:?}");
    }
}

/// Ticks of a paused schedule pass; resumed, it goes on with the next one.
pub async fn a_paused_schedule_makes_no_calls(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    if is_refused(&scene).await {
        return;
    }
    let worker = scene.worker(&["tick"], 2).await;
    let name = scene.name("schedule");
    ask(&scene, Query::Schedule(Box::new(every_second(&scene)))).await;
    let pause = |paused| Query::PauseSchedule { name: name.clone(), paused };
    assert_eq!(ask(&scene, pause(true)).await, Answer::Changed(Change::Changed));
    assert!(listed(&scene).await.is_some_and(|it| it.paused));
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    worker.round_trip().await;
    assert!(worker.has_lease().is_none(), "a paused schedule made a call");
    assert_eq!(ask(&scene, pause(false)).await, Answer::Changed(Change::Changed));
    let lease = worker.lease().await;
    worker.echo(&lease).await;
    ask(&scene, Query::Unschedule(name)).await;
}
