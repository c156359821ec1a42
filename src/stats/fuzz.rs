use super::parse;
use crate::fuzz::fuzz_text;

#[test]
fn no_accounting_file_does_harm() {
    fuzz_text("accounting", |text| {
        let table = parse::Table::of(text);
        let _ = table.value("usage_usec").or(parse::number(text)).map(parse::Limit::of_number);
        parse::cpu_max(text);
        parse::Limit::of(text);
        if let Some(pressure) = parse::pressure(text) {
            let averages = [pressure.some.averages, pressure.full.averages].concat();
            assert!(averages.iter().all(|value| value.is_finite()));
        }
        let lines = text.lines().count();
        assert!(parse::io_stat(text).len() <= lines && parse::blkio(text).len() <= lines);
        assert!(parse::net_dev(text).iter().all(|interface| interface.name != "lo"));
        parse::max_open_files(text);
    });
}
