//! Unwrapping and creating packets, beside `sphinx-packet` 0.6. The path is that of `BETANET_X25519`.
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmark code")]

use std::time::Duration;

use betanet_bench::{BATCH, Resized, ours, peer};
use betanet_sphinx::x25519::active_path;
use betanet_sphinx::{MailboxId, Maker, Native};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn packets<S: Maker>(criterion: &mut Criterion)
where
    S::Recipient: From<MailboxId>,
{
    let len = S::GEOMETRY.user_payload_len;
    let path = active_path().unwrap().name();
    let elements = Throughput::Elements(BATCH.try_into().unwrap());

    let mut group = criterion.benchmark_group(format!("unwrap/{len}"));
    group.throughput(elements.clone());
    let mut mine = ours::Unwrap::<S>::new().unwrap();
    group.bench_function(format!("batch/{path}"), |bencher| bencher.iter(|| mine.run()));
    group.bench_function("one by one", |bencher| bencher.iter(|| mine.run_one_by_one()));
    let theirs = peer::Unwrap::new(len).unwrap();
    group.bench_function("sphinx-packet", |bencher| bencher.iter(|| theirs.run()));
    group.finish();

    let mut group = criterion.benchmark_group(format!("create/{len}"));
    group.throughput(elements);
    let mut mine = ours::Create::<S>::new();
    group.bench_function(format!("batch/{path}"), |bencher| bencher.iter(|| mine.run().unwrap()));
    let theirs = peer::Create::new(len);
    group.bench_function("sphinx-packet", |bencher| bencher.iter(|| theirs.run().unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = packets::<Native>, packets::<Resized<Native, 1024>>
}
criterion_main!(benches);
