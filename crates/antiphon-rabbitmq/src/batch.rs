//! A batch out of a stream: what is ready now, up to a bound, so that a pump tells its sink once for all of it.

use futures_util::{FutureExt, Stream, StreamExt};

/// How many asked things, answers and deliveries are taken before the sink is told.
pub(crate) const BATCH: usize = 256;

/// Counts what was taken. Nothing is taken that is not given back: a delivery that is forgotten stays unsettled for as long
/// as the connection lasts.
pub(crate) struct Batch {
    taken: usize,
}

impl Batch {
    /// One was taken, by waiting for it.
    pub(crate) const fn begun() -> Self {
        Self { taken: 1 }
    }

    /// What the stream says if it has more for this batch; the inner `None` is its end.
    pub(crate) fn next<S: Stream + Unpin>(&mut self, stream: &mut S) -> Option<Option<S::Item>> {
        if self.taken >= BATCH {
            return None;
        }
        self.taken += 1;
        stream.next().now_or_never()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    #[tokio::test]
    async fn nothing_is_lost_between_two_batches() {
        let all: Vec<usize> = (0..3 * BATCH + 7).collect();
        let (mut ready, mut seen, mut batches) = (stream::iter(all.clone()), Vec::new(), 0);
        while let Some(first) = ready.next().await {
            let (mut next, mut batch) = (Some(Some(first)), Batch::begun());
            let before = seen.len();
            while let Some(Some(one)) = next {
                seen.push(one);
                next = batch.next(&mut ready);
            }
            assert!(seen.len() - before <= BATCH, "a batch is bounded");
            batches += 1;
        }
        assert_eq!((seen, batches), (all, 4));
    }
}
