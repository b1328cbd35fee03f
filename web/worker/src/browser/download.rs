//! Keeping a whole model for later, without a GPU.

use futures_util::{StreamExt, TryStreamExt};
use gptoss_model::{Host, SensibleSource, StageError, in_stage, read_gguf};
use gptoss_node::Downloaded;
use gptoss_protocol::{Event, Stage};
use gptoss_source::Source;
use web_time::Instant;

use super::platform::{BrowserPlatform, Wanted};

/// Read at once; two chunks of what is cached.
const READ_BYTES: u64 = 8 << 20;
const READS_IN_FLIGHT: usize = 4;

/// Reads all of a model, so that it is cached. Ends early once that can come to nothing.
pub async fn download(
    platform: &BrowserPlatform,
    wanted: &Wanted<'_>,
    host: &dyn Host,
) -> Result<Downloaded, StageError> {
    let cache = &platform.cache;
    let source = platform.reach(true, wanted, host).await?;
    let files = source.parts().len().max(1);
    let gguf = in_stage(host, Stage::GgufHeader, read_gguf(source.as_ref(), host)).await?;
    // Nobody looks at what is cached until it is loaded, perhaps when its host is gone.
    let source = SensibleSource::new(source, &gguf);
    let needed_bytes = source.len_bytes();
    in_stage(host, Stage::WeightsFetch, async {
        let begin = Instant::now();
        let offsets = (0..needed_bytes).step_by(READ_BYTES as usize);
        let reads = offsets.map(|offset| source.read(offset, READ_BYTES.min(needed_bytes - offset)));
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_IN_FLIGHT);
        let mut fetched_bytes = 0;
        while cache.can_cache_all(files)
            && let Some(bytes) = reads.try_next().await?
        {
            fetched_bytes += bytes.len() as u64;
            let seconds = begin.elapsed().as_secs_f64();
            host.emit(Event::Fetch {
                fetched_bytes,
                needed_bytes,
                requests: source.requests(),
                wire_bytes: source.wire_bytes(),
                bytes_per_second: (seconds > 0.0).then(|| fetched_bytes as f64 / seconds),
            });
        }
        // The numbers go with the source.
        cache.tell_progress();
        Ok(Downloaded { cached_bytes: cache.cached_bytes(), model_bytes: needed_bytes })
    })
    .await
}
