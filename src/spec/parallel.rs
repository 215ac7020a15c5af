//! One function over many items, on all cores. The order of the results is that of the items, so nothing tells on how
//! many threads it ran.

use std::num::NonZero;
use std::thread;

/// Fewer items than this for each thread are not worth one: to start it takes as long as to read several services.
const SHARE: usize = 64;

/// Calls `work` on each of `items`; a machine without another thread for us does it all here.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < 2 * SHARE {
        return items.iter().map(work).collect();
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(items.len() / SHARE);
    let mut parts = items.chunks(items.len().div_ceil(threads));
    let first = parts.next().unwrap_or_default();
    let work = &work;
    thread::scope(|scope| {
        let others: Vec<_> = parts
            .map(|part| {
                let helper = thread::Builder::new()
                    .spawn_scoped(scope, move || part.iter().map(work).collect::<Vec<R>>());
                (part, helper)
            })
            .collect();
        let mut results = Vec::with_capacity(items.len());
        results.extend(first.iter().map(work));
        for (part, helper) in others {
            match helper {
                Ok(helper) => match helper.join() {
                    Ok(done) => results.extend(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                },
                Err(_no_thread) => results.extend(part.iter().map(work)),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0, 1, 127, 128, 129, 1_000, 1_001] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), expected, "{count} items");
        }
    }
}
