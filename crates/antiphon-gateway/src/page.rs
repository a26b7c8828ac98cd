//! The pages, by path.

use crate::metrics;
use crate::request::Asked;
use antiphon_protocol::{Answer, Query};
use antiphon_server::{Phase, ServerHandle};
use std::time::Duration;

/// How long the broker may take to say how it is: less than a scraper's usual 10 s.
const ANSWER: Duration = Duration::from_secs(2);
const TEXT: &str = "text/plain; charset=utf-8";

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: &'static str,
    pub(crate) content_type: &'static str,
    /// A header line of its own, with its end, or nothing.
    pub(crate) header: &'static str,
    pub(crate) body: String,
}

impl Page {
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type: TEXT, header: "", body: body.into() }
    }
}

pub(crate) fn find(head: &Asked, server: &ServerHandle) -> Page {
    let path = match head {
        Asked::Get(path) | Asked::HeadOf(path) => path.as_str(),
        Asked::Other => {
            let page = Page::text("405 Method Not Allowed", "only GET and HEAD are served\n");
            return Page { header: "allow: GET, HEAD\r\n", ..page };
        }
        Asked::Malformed => return Page::text("400 Bad Request", "not a request that is understood here\n"),
    };
    match path {
        "/livez" | "/healthz" => live(server.phase()),
        "/readyz" => ready(server.phase()),
        "/metrics" => metrics(server),
        "/version" => Page {
            content_type: "application/json",
            ..Page::text("200 OK", concat!("{\"name\":\"antiphon\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}\n"))
        },
        _ => Page::text("404 Not Found", "there are /livez, /readyz, /metrics and /version\n"),
    }
}

/// Alive until it is gone: recovering and stopping brokers are not to be killed.
fn live(phase: Phase) -> Page {
    match phase {
        Phase::Stopped => Page::text("503 Service Unavailable", "stopped\n"),
        Phase::Starting | Phase::Ready | Phase::Stopping => Page::text("200 OK", "ok\n"),
    }
}

fn ready(phase: Phase) -> Page {
    let why = match phase {
        Phase::Ready => return Page::text("200 OK", "ok\n"),
        Phase::Starting => "recovering\n",
        Phase::Stopping => "stopping\n",
        Phase::Stopped => "stopped\n",
    };
    Page::text("503 Service Unavailable", why)
}

fn metrics(server: &ServerHandle) -> Page {
    let answers = (server.ask(Query::Broker, ANSWER), server.ask(Query::Procedures, ANSWER));
    let (broker, procedures) = match answers {
        (Ok(Answer::Broker(broker)), Ok(Answer::Procedures(procedures))) => (broker, procedures),
        (Err(failure), _) | (_, Err(failure)) => {
            return Page::text("503 Service Unavailable", format!("{failure}\n"));
        }
        _ => return Page::text("503 Service Unavailable", "the broker gave no figures\n"),
    };
    let body = metrics::write(&broker, &procedures, &server.counters());
    Page { status: "200 OK", content_type: "text/plain; version=0.0.4; charset=utf-8", header: "", body }
}
