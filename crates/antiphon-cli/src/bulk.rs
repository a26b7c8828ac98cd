//! Changing all calls that match: first they are counted, then, with leave, changed, a thousand with each question.

use crate::connection::{Connection, now_ms, unexpected};
use crate::dead::Consent;
use crate::ending::Ending;
use crate::ls::Filters;
use crate::output::Output;
use antiphon_protocol::{Answer, BULK_CALLS_MAX, Bulk, CallFilter, Changed, Deed, Query, State};

/// Does `deed` to all that match once there is leave; `None` without leave. Calls that come meanwhile are left alone.
pub async fn run(
    connection: &Connection,
    deed: Deed,
    what: &str,
    (filters, state): (&Filters, Option<State>),
    consent: &Consent,
    output: &Output,
) -> Result<Option<Vec<Changed>>, Ending> {
    let mut filter = filters.filter(state, 0);
    if filter.until_ms == 0 {
        filter.until_ms = now_ms().saturating_add(1);
    }
    let matching = change(connection, deed, &filter, filters.limit(), true).await?;
    if !consent.is_given(what, matching.len(), output)? {
        return Ok(None);
    }
    change(connection, deed, &filter, filters.limit(), false).await.map(Some)
}

async fn change(
    connection: &Connection,
    deed: Deed,
    filter: &CallFilter,
    most: Option<u32>,
    dry_run: bool,
) -> Result<Vec<Changed>, Ending> {
    let (mut all, mut cursor, mut left) = (Vec::new(), None, most.unwrap_or(u32::MAX));
    loop {
        let filter = CallFilter { limit: left.min(BULK_CALLS_MAX), ..filter.clone() };
        let mut answer = match connection.ask(Query::Bulk(Bulk { deed, filter, dry_run, cursor })).await? {
            Answer::Bulk(answer) => answer,
            other => return Err(unexpected(&other)),
        };
        left = left.saturating_sub(u32::try_from(answer.calls.len()).unwrap_or(u32::MAX));
        all.append(&mut answer.calls);
        cursor = answer.next;
        if cursor.is_none() || left == 0 {
            return Ok(all);
        }
    }
}
