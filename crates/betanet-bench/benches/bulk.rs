//! The replay cache, and the pipeline on one worker and on two.
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmark code")]

use std::time::Duration;

use betanet_bench::bulk::{Bulk, PACKETS, Tags};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(Tags::INSERTS.try_into().unwrap()));
    let mut tags = Tags::new();
    group.bench_function("insert", |bencher| bencher.iter(|| tags.run().unwrap()));
    group.finish();
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(PACKETS.try_into().unwrap()));
    let mut bulk = Bulk::new().unwrap();
    for workers in [1, 2] {
        // Without the threads' start and end, which the pipeline pays once.
        let mut run = |turns| (0..turns).map(|_| bulk.run(workers).unwrap().wall).sum();
        group.bench_function(format!("{workers} workers"), |bencher| bencher.iter_custom(&mut run));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = replay, pipeline
}
criterion_main!(benches);
