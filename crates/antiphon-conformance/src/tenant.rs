//! Capability: tenants, the unit of fairness.

use crate::Harness;
use crate::scene::Scene;
use antiphon_broker::Support;
use antiphon_protocol::{Code, State};

/// Without the capability a tenant is refused rather than ignored; with it, its calls run.
pub async fn a_tenant_is_refused_where_there_are_none(harness: &impl Harness) {
    let scene = Scene::open(harness).await;
    let (caller, worker) = (scene.caller().await, scene.worker(&["echo"], 1).await);
    let call = scene.call("echo", |route| route.tenant = Some(scene.name("acme")));
    if scene.capabilities().tenants == Support::Refused {
        assert_eq!(caller.refused(&call, 1).await.code, Code::Unimplemented);
        return;
    }
    caller.accepted(&call, 1).await;
    worker.echo(&worker.lease_of(&call).await).await;
    assert_eq!(caller.outcome(1).await.state, State::Succeeded);
}
