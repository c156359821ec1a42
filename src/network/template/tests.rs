//! Templates against what Go's text/template gives of them.

use proptest::prelude::*;

use super::*;

const ONE: &str = "10.244.1.0/24";
const TWO: &str = "10.244.1.0/24, fd00:10:244::/64";

fn rendered(template: &str, cidrs: &str) -> String {
    let cidrs = PodCidrs::parse(cidrs).unwrap();
    Template::parse(template).unwrap_or_else(|error| panic!("{template:?}: {error}")).render(&cidrs)
}

/// What Go's text/template gives of each.
#[test]
fn templates_are_filled_in() {
    for (template, one, two) in [
        ("plain } { text", "plain } { text", "plain } { text"),
        ("{{.PodCIDR}}", ONE, ONE),
        ("<{{ .PodCIDR }}>", "<10.244.1.0/24>", "<10.244.1.0/24>"),
        ("{{range .Routes}}[{{.}}]{{end}}", "[0.0.0.0/0]", "[0.0.0.0/0][::/0]"),
        // As containerd's documentation has it.
        (
            r#"[{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}{"subnet": "{{$range}}"}{{end}}]"#,
            r#"[{"subnet": "10.244.1.0/24"}]"#,
            r#"[{"subnet": "10.244.1.0/24"}, {"subnet": "fd00:10:244::/64"}]"#,
        ),
        (
            "{{range $r := .Routes}}{{$r}};{{.}} {{end}}",
            "0.0.0.0/0;0.0.0.0/0 ",
            "0.0.0.0/0;0.0.0.0/0 ::/0;::/0 ",
        ),
        ("{{range $i,$r:=.Routes}}{{$i}}{{end}}", "0", "01"),
        ("a \n {{- range .Routes -}} \t x {{- else}}y{{- end -}} \n b", "axb", "axxb"),
        ("{{range .Routes}}{{$.PodCIDR}} {{end}}", "10.244.1.0/24 ", "10.244.1.0/24 10.244.1.0/24 "),
        ("{{range $i, $r := .Routes}}{{if $i}}n{{else}}0{{end}}{{end}}", "0", "0n"),
        ("{{range $i, $r := .Routes}}{{if $i}}n{{else if $r}}r{{else}}0{{end}}{{end}}", "r", "rn"),
        ("{{if .Routes}}{{range .PodCIDRRanges}}{{range $.Routes}}.{{end}},{{end}}{{end}}", ".,", "..,..,"),
        ("a{{/* }} */}}b {{- /* x */ -}} c", "abc", "abc"),
        ("{{range\n.Routes}}x{{end}}", "x", "xx"),
        (
            "{{range $a := .Routes}}{{range $a := $.PodCIDRRanges}}{{end}}{{$a}} {{end}}",
            "0.0.0.0/0 ",
            "0.0.0.0/0 ::/0 ",
        ),
    ] {
        assert_eq!(rendered(template, ONE), one, "{template:?}");
        assert_eq!(rendered(template, TWO), two, "{template:?}");
    }
}

#[test]
fn what_is_beyond_is_refused_with_its_line() {
    let deep = "{{if .PodCIDR}}".repeat(99);
    for (template, line, word) in [
        ("a\n{{.Nope}}", 2, ".Nope"),
        ("{{.PodCIDR", 1, "no end"),
        ("{{/* x }}", 1, "comment"),
        ("{{/* x */ y}}", 1, "comment"),
        ("{{}}", 1, "not understood"),
        ("\n\n{{printf \"%s\" .PodCIDR}}", 3, "printf"),
        ("{{.PodCIDR | html}}", 1, "not understood"),
        ("{{template \"x\"}}", 1, "template"),
        ("{{.Routes}}", 1, "range"),
        ("{{.}}", 1, "range"),
        ("{{$}}", 1, "range"),
        ("{{$x}}", 1, "$x"),
        ("{{range .PodCIDR}}{{end}}", 1, "no list"),
        ("{{range $x := .Routes}}{{end}}{{$x}}", 1, "$x"),
        ("{{range x := .Routes}}{{end}}", 1, "\"x\""),
        ("{{range .Routes}}{{.PodCIDR}}{{end}}", 1, "$.PodCIDR"),
        ("\n{{range .Routes}}\n\n", 2, "end"),
        ("{{if .PodCIDR .Routes}}{{end}}", 1, "one field"),
        ("{{if .}}{{end}}", 1, "always"),
        ("{{if eq .PodCIDR \"x\"}}{{end}}", 1, "eq"),
        ("x{{end}}", 1, "{{end}}"),
        ("{{if .PodCIDR}}{{else}}\n{{else}}{{end}}", 2, "second else"),
        ("{{range .Routes}}{{else if .PodCIDR}}{{end}}", 1, "else if"),
        (deep.as_str(), 1, "16"),
    ] {
        let error = Template::parse(template).expect_err(template);
        assert_eq!(error.line, line, "{template:?}: {error}");
        assert!(error.why.contains(word), "{template:?}: {error}");
    }
}

#[test]
fn networks_are_checked() {
    let cidrs = PodCidrs::parse(" fd00::/64 ,10.0.0.0/8").unwrap();
    assert_eq!((cidrs.ranges[0].as_str(), cidrs.routes.len()), ("fd00::/64", 2));
    let many = [ONE; MAX_CIDRS + 1].join(",");
    for bad in ["", ",", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/8,", "a/8", "1.2.3.4/8 5", "::1/129", &many] {
        PodCidrs::parse(bad).expect_err(bad);
    }
}

proptest! {
    #[test]
    fn text_without_braces_is_itself(text in "[^{]{0,80}") {
        prop_assert_eq!(rendered(&text, ONE), text);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Template::parse(&text);
    }

    #[test]
    fn near_templates_do_not_panic(parts in proptest::collection::vec(prop_oneof![
        Just("{{"), Just("}}"), Just("{{- "), Just(" -}}"), Just("range "), Just("if "), Just("else "), Just("end"),
        Just(".PodCIDR"), Just(".Routes"), Just("$i"), Just("$"), Just("."), Just(","), Just(":="), Just("/*"),
        Just("*/"), Just("-"), Just(" "), Just("\n"), Just("ä"),
        Just("{{range $i := .Routes}}"), Just("{{end}}"), Just("{{if $i}}"), Just("{{else}}"),
    ], 0..24)) {
        if let Ok(template) = Template::parse(&parts.concat()) {
            template.render(&PodCidrs::parse(TWO).unwrap());
        }
    }
}
