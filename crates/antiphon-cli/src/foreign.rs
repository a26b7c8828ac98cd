//! Brokers that are not ours: each is a feature of this program, so that the first build needs none of them.

use crate::ending::Ending;
use antiphon_broker::{Broker, Driver};
use std::sync::Arc;

/// Schemes, and the feature that knows them.
const FEATURES: &[(&str, &str)] = &[("amqp", "rabbitmq"), ("amqps", "rabbitmq"), ("kafka", "kafka")];

/// What this program was built with.
fn drivers() -> Vec<Box<dyn Driver>> {
    vec![
        #[cfg(feature = "kafka")]
        Box::new(antiphon_kafka::driver()),
        #[cfg(feature = "rabbitmq")]
        Box::new(antiphon_rabbitmq::driver()),
    ]
}

/// Opens the foreign broker at `url`; `None` when its scheme is no foreign one.
pub async fn open(url: &str) -> Result<Option<Arc<dyn Broker>>, Ending> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if let Some(driver) = drivers().into_iter().find(|driver| driver.schemes().contains(&scheme)) {
        return Ok(Some(driver.open(url).await?));
    }
    match FEATURES.iter().find(|(known, _)| *known == scheme) {
        None => Ok(None),
        Some((_, feature)) => Err(Ending::usage(format!(
            "this program was built without {scheme}: brokers; build it with \
             `cargo build --release -p antiphon-cli --features {feature}`"
        ))),
    }
}

/// A foreign URL without user and password.
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{}", place.split('?').next().unwrap_or(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("amqp://me:secret@host:1/%2f?prefix=a"), "amqp://host:1/%2f");
        assert_eq!(shown("amqp://host"), "amqp://host");
    }
}
