//! Events through the client: emitted, subscribed to, watched.

use crate::fake::Fake;
use antiphon::{Antiphon, Code, Misfire, Name, Overlap, Recurrence, Route, Schedule};

fn numbers(count: u32) -> std::ops::Range<u32> {
    0..count
}

#[tokio::test]
async fn a_stream_has_what_is_emitted_after_it_began_in_order_and_goes_on_where_another_was() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    antiphon.emit("orders.created", 99).await.unwrap();
    let mut stream = antiphon.events("orders.*").await.unwrap();
    let mut ids = Vec::new();
    // More than one part.
    for number in numbers(600) {
        ids.push(antiphon.emit("orders.created", number).await.unwrap());
        antiphon.emit("users.created", number).await.unwrap();
    }
    let mut after = 0;
    for (number, id) in numbers(600).zip(&ids) {
        let event = stream.next().await.unwrap();
        assert_eq!((event.id, event.value::<u32>().unwrap()), (*id, number));
        assert_eq!((event.topic.to_string().as_str(), event.durable), ("orders.created", false));
        if number == 299 {
            after = event.number;
        }
    }
    drop(stream);
    let mut later = antiphon.events_after("orders.>", after).unwrap();
    assert_eq!(later.next().await.unwrap().id, ids[300]);
    let mut all = antiphon.events_after(">", 0).unwrap();
    assert_eq!(all.next().await.unwrap().value::<u32>().unwrap(), 99);
    assert_eq!(all.next().await.unwrap().value::<String>().unwrap_err().code, Code::InvalidArgument);
    antiphon.close().await;
    // What had come before it was closed is read; then the stream ends.
    let mut ended = all.next().await;
    while ended.is_ok() {
        ended = all.next().await;
    }
    assert_eq!(ended.unwrap_err().code, Code::Unavailable);
}

#[tokio::test]
async fn a_stream_waits_and_giving_up_loses_nothing() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    let mut stream = antiphon.events("a").await.unwrap();
    let waited = tokio::time::timeout(std::time::Duration::from_millis(5), stream.next()).await;
    assert!(waited.is_err(), "nothing was emitted");
    antiphon.emit("a", 1).await.unwrap();
    assert_eq!(stream.next().await.unwrap().value::<u32>().unwrap(), 1);
}

#[tokio::test]
async fn what_is_no_pattern_and_what_the_broker_lacks_is_refused_before_anything_is_sent() {
    let antiphon = Antiphon::connect("memory:").await.unwrap();
    assert_eq!(antiphon.events("a.>.b").await.unwrap_err().code, Code::InvalidArgument);
    let fake = Fake::new();
    let poor = fake.antiphon();
    let route = Route::new(Name::from_static("a.b"));
    let schedule = Schedule {
        name: Name::from_static("s"),
        recurrence: Recurrence::Every(1_000),
        route: route.clone(),
        content_type: antiphon::ContentType::Json,
        arguments: b"null".to_vec(),
        overlap: Overlap::Allow,
        misfire: Misfire::Skip,
    };
    let refused = [
        poor.events("a").await.unwrap_err().code,
        poor.events_after("a", 0).unwrap_err().code,
        poor.emit("a", 1).await.unwrap_err().code(),
        poor.subscribe("s", "a", &route).await.unwrap_err().code,
        poor.unsubscribe("s").await.unwrap_err().code,
        poor.subscriptions(None).await.unwrap_err().code,
        poor.schedule(schedule).await.unwrap_err().code,
        poor.unschedule("s").await.unwrap_err().code,
        poor.pause_schedule("s", true).await.unwrap_err().code,
        poor.schedules().await.unwrap_err().code,
    ];
    assert_eq!(refused, [Code::Unimplemented; 10]);
    assert!(fake.kept().submissions.is_empty());
}
