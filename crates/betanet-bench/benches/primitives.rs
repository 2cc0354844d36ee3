//! X25519 on each path and in other libraries; payload ciphers.
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmark code")]

use std::time::Duration;

use betanet_bench::{BATCH, agreement, peer};
use betanet_sphinx::suite::hctr2::Hctr2;
use betanet_sphinx::suite::lioness::Lioness;
use betanet_sphinx::x25519::X25519Path;
use betanet_sphinx::{Geometry, Native, Suite};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn x25519(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("x25519");
    group.throughput(Throughput::Elements(BATCH.try_into().unwrap()));
    for path in X25519Path::ALL.into_iter().filter(|path| path.is_available()) {
        let mut lanes = agreement::Lanes::new(path);
        group.bench_function(format!("batch/{}", path.name()), |bencher| bencher.iter(|| lanes.run().unwrap()));
    }
    group.throughput(Throughput::Elements(1));
    let mut point = agreement::point();
    group.bench_function("single", |bencher| bencher.iter(|| agreement::ours(&mut point)));
    group.bench_function("dalek", |bencher| bencher.iter(|| agreement::dalek(&mut point)));
    let aws_lc = agreement::AwsLc::new().unwrap();
    group.bench_function("aws-lc", |bencher| bencher.iter(|| aws_lc.run(&mut point).unwrap()));
    #[cfg(feature = "openssl")]
    {
        let openssl = agreement::OpenSsl::new().unwrap();
        group.bench_function("openssl", |bencher| bencher.iter(|| openssl.run(&mut point).unwrap()));
    }
    group.finish();
}

fn payload(criterion: &mut Criterion) {
    const LEN: usize = Geometry::NATIVE.delta_len;
    let mut group = criterion.benchmark_group("payload");
    group.throughput(Throughput::Bytes(LEN.try_into().unwrap()));
    let mut delta = [7; LEN];
    group.bench_function("hctr2", |bencher| bencher.iter(|| Hctr2::new(&[9; 32]).decrypt(&[], &mut delta)));
    let key = [9; Lioness::KEY_LEN];
    group.bench_function("lioness", |bencher| bencher.iter(|| Lioness::new(&key).decrypt(&mut delta)));
    group.bench_function("lioness/sphinx-packet", |bencher| bencher.iter(|| peer::lioness(&key, &delta)));
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    criterion.bench_function("derive", |bencher| bencher.iter(|| Native::derive(std::hint::black_box(&[5; 32]))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = x25519, payload, keys
}
criterion_main!(benches);
