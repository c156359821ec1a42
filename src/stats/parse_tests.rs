use proptest::prelude::*;

use super::*;

#[test]
fn tables_of_counters() {
    let table = Table::of("usage_usec 12\nnr_periods 0\nbroken\nnegative -3\nlast 18446744073709551615");
    assert_eq!(table.value("usage_usec"), Some(12));
    assert_eq!(table.value("nr_periods"), Some(0));
    assert_eq!(table.value("last"), Some(u64::MAX));
    for missing in ["broken", "negative", "usage", ""] {
        assert_eq!(table.value(missing), None, "{missing}");
    }
}

#[test]
fn limits_of_both_versions() {
    for (text, limit) in [
        ("max\n", Some(Limit::Unlimited)),
        ("-1\n", Some(Limit::Unlimited)),
        ("9223372036854771712\n", Some(Limit::Unlimited)),
        ("268435456\n", Some(Limit::Of(268_435_456))),
        ("0\n", Some(Limit::Of(0))),
        ("", None),
        ("many", None),
    ] {
        assert_eq!(Limit::of(text), limit, "{text:?}");
    }
    assert_eq!(Limit::Of(10).left(3), Some(7));
    assert_eq!(Limit::Of(10).left(30), Some(0));
    assert_eq!(Limit::Unlimited.left(3), None);
    assert_eq!(cpu_max("max 100000\n"), Some((Limit::Unlimited, 100_000)));
    assert_eq!(cpu_max("50000 100000\n"), Some((Limit::Of(50_000), 100_000)));
    assert_eq!(cpu_max("50000"), None);
}

#[test]
fn pressure_is_in_nanoseconds() {
    let text =
        "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
    let read = pressure(text).unwrap();
    assert_eq!(read.some, Stall { total_ns: 1_234_000, averages: [1.5, 0.25, 0.0] });
    assert_eq!(read.full.total_ns, 7_000);
    let old = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n").unwrap();
    assert_eq!((old.some.total_ns, old.full), (5_000, Stall::default()));
    for broken in
        ["", "full avg10=0.00 avg60=0.00 avg300=0.00 total=5", "some avg10=NaN avg60=0 avg300=0 total=5"]
    {
        assert_eq!(pressure(broken), None, "{broken}");
    }
}

#[test]
fn devices_of_both_versions() {
    let disk = Device { major: 8, minor: 16 };
    let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0 \nnonsense\n";
    let read = io_stat(text);
    assert_eq!(read[0].0, disk);
    assert_eq!(read[0].1[..2], [("rbytes", 1_459_200), ("wbytes", 314_773_504)]);
    // A device that was only ever named has no counters.
    assert_eq!(read[1], (Device { major: 8, minor: 0 }, vec![]));
    assert_eq!(read.len(), 2);
    let text = "8:16 Read 100\n8:16 Write 200\n8:16 Total 300\nTotal 300\n";
    assert_eq!(blkio(text), [(disk, "Read", 100), (disk, "Write", 200), (disk, "Total", 300)]);
}

#[test]
fn interfaces_without_the_loopback() {
    let text = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
        eth0: 12345      67    1    2    3     4          5         6      890      12    7    8    9     0       0          0\n\
        net:1:5 6 7 8 0 0 0 0 1 2 3 4 0 0 0 0\nshort: 1 2 3\n";
    let read = net_dev(text);
    let names: Vec<_> = read.iter().map(|interface| interface.name.as_str()).collect();
    assert_eq!(names, ["eth0", "net:1"]);
    assert_eq!(read[0].received, Traffic { bytes: 12345, packets: 67, errors: 1, dropped: 2 });
    assert_eq!(read[0].sent, Traffic { bytes: 890, packets: 12, errors: 7, dropped: 8 });
}

#[test]
fn the_soft_limit_of_open_files() {
    let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                Max processes             95362                95362                processes \n\
                Max open files            1024                 524288               files     \n";
    assert_eq!(max_open_files(text), Some(1024));
    assert_eq!(
        max_open_files("Max open files            unlimited            unlimited            files"),
        None
    );
    assert_eq!(max_open_files(""), None);
}

/// Nearly a file of the kernel's: its words in any order, with anything in between.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("some"),
        Just("full"),
        Just("avg10="),
        Just("total="),
        Just("8:0"),
        Just("rbytes="),
        Just(":"),
        Just("Read"),
        Just("max"),
        Just("eth0:"),
        Just("Max open files"),
        Just(" "),
        Just("\n"),
        Just("="),
    ];
    let piece = prop_oneof![word.prop_map(str::to_owned), any::<u64>().prop_map(|n| n.to_string()), ".{0,4}"];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_that_is_read_breaks_a_parser(text in prop_oneof![nearly(), ".{0,200}"]) {
        let _ = (Table::of(&text).value("some"), number(&text), Limit::of(&text), cpu_max(&text));
        let _ = (io_stat(&text), blkio(&text), max_open_files(&text));
        prop_assert!(net_dev(&text).iter().all(|interface| interface.name != "lo"));
        if let Some(read) = pressure(&text) {
            let all = [read.some.averages, read.full.averages].concat();
            prop_assert!(all.iter().all(|average| average.is_finite()));
        }
    }

    #[test]
    fn what_the_kernel_writes_is_read(
        some in any::<u32>(), full in any::<u32>(), counters in proptest::array::uniform16(any::<u64>()),
    ) {
        let stall = |name: &str, total| format!("{name} avg10=0.10 avg60=0.20 avg300=100.00 total={total}\n");
        let read = pressure(&(stall("some", some) + &stall("full", full))).unwrap();
        prop_assert_eq!(read.some.total_ns, u64::from(some) * 1000);
        prop_assert_eq!(read.full, Stall { total_ns: u64::from(full) * 1000, averages: [0.1, 0.2, 100.0] });
        let words: Vec<_> = counters.iter().map(u64::to_string).collect();
        let read = net_dev(&format!("  eth0: {}\n", words.join("   ")));
        prop_assert_eq!(read[0].received.bytes, counters[0]);
        prop_assert_eq!(read[0].sent.dropped, counters[11]);
    }
}
