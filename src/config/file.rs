//! The TOML file: which key sets what, and within which range.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::{ConfigError, Mistake};
use super::model::*;
use super::section::{Notes, Section};
use super::value::{
    Read, absolute_path, by, collector, containerd_name, duration, ip_address, log_level, metrics_address,
    seccomp_profile, size, socket_path, some, text, truth, whole, word,
};

/// Read where no `--config` is given, if it is there.
pub const DEFAULT_PATH: &str = "/etc/cridge/config.toml";

/// What is said to whoever wants traces of a build that cannot tell them.
pub(super) const NO_TRACES: &str =
    "must be left out: this cridge was built without traces (cargo build --features traces has them)";

/// A file's configuration, and what of the file means nothing.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Keys that nobody knows, with their full path: warned of, not refused, so that a file may serve two releases.
    pub unknown: Vec<Mistake>,
}

impl Loaded {
    /// Reads the file, or without one [`DEFAULT_PATH`] if that exists, else the defaults.
    ///
    /// # Errors
    /// When it cannot be read, or with all of its mistakes.
    pub fn find(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::load(path),
            None if Path::new(DEFAULT_PATH).exists() => Self::load(Path::new(DEFAULT_PATH)),
            None => Ok(Self { config: Config::default(), unknown: Vec::new() }),
        }
    }

    /// Reads this file.
    ///
    /// # Errors
    /// When it cannot be read, or with all of its mistakes.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|mistakes| ConfigError::Invalid { path: path.to_owned(), mistakes })
    }

    /// Reads a document.
    ///
    /// # Errors
    /// All mistakes, in the order of their lines.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let (config, mut notes) = walk(text);
        notes.mistakes.sort();
        notes.unknown.sort();
        if notes.mistakes.is_empty() {
            Ok(Self { config, unknown: notes.unknown })
        } else {
            Err(notes.mistakes)
        }
    }
}

/// Reads what can be read, and notes the rest.
pub(super) fn walk(text: &str) -> (Config, Notes) {
    let mut notes = Notes::of(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut syntax: Vec<_> = errors.iter().map(|error| syntax_mistake(error, &notes)).collect();
    // Of several on one line, the later ones come of the first.
    syntax.dedup_by_key(|mistake| mistake.line);
    let mut config = Config::default();
    let mut root = Section::root(document.into_inner(), &mut notes);
    whole_file(&mut root, &mut config);
    root.finish();
    // What was made up to go on after a mistake of syntax is no second mistake.
    notes.mistakes.retain(|mistake| syntax.iter().all(|syntax| syntax.line != mistake.line));
    notes.mistakes.extend(syntax);
    (config, notes)
}

fn syntax_mistake(error: &toml::de::Error, notes: &Notes) -> Mistake {
    let line = notes.line(error.span().map_or(0, |span| span.start));
    Mistake { line, key: String::new(), text: error.message().replace('\n', ", ") }
}

fn whole_file(section: &mut Section<'_, '_>, into: &mut Config) {
    section.key("listen", by(socket_path), &mut into.listen);
    section.key("root", by(absolute_path), &mut into.root);
    section.key("state", by(absolute_path), &mut into.state);
    section.table("containerd", containerd, &mut into.containerd);
    section.table("runtime", runtime, &mut into.runtime);
    section.table("network", network, &mut into.network);
    section.table("image", image, &mut into.image);
    section.table("registry", registry, &mut into.registry);
    section.table("streaming", streaming, &mut into.streaming);
    section.table("metrics", metrics, &mut into.metrics);
    section.table("traces", traces, &mut into.traces);
    section.table("log", log, &mut into.log);
    if into.root == into.state {
        section.refuse("state", "must be another folder than root: it is wiped at a reboot".into());
    }
    if into.listen == into.containerd.socket {
        section.refuse("listen", "must be another socket than containerd's".into());
    }
}

fn containerd(section: &mut Section<'_, '_>, into: &mut ContainerdConfig) {
    section.key("socket", by(socket_path), &mut into.socket);
    section.key("namespace", by(containerd_name), &mut into.namespace);
}

fn runtime(section: &mut Section<'_, '_>, into: &mut RuntimeConfig) {
    const DRIVERS: [(&str, CgroupDriver); 2] =
        [("cgroupfs", CgroupDriver::Cgroupfs), ("systemd", CgroupDriver::Systemd)];
    const DRAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10 * 60)];
    section.key("default_handler", text, &mut into.default_handler);
    section.key("cgroup_driver", some(word(&DRIVERS)), &mut into.cgroup_driver);
    section.key("max_log_line", size(1 << 10..=1 << 20), &mut into.max_log_line);
    section.key("exec_drain", duration(DRAIN[0]..=DRAIN[1]), &mut into.exec_drain);
    section.key("enable_unprivileged_ports", truth, &mut into.enable_unprivileged_ports);
    section.key("enable_unprivileged_icmp", truth, &mut into.enable_unprivileged_icmp);
    section.key("disable_hugetlb_controller", truth, &mut into.disable_hugetlb_controller);
    section.key("tolerate_missing_hugetlb_controller", truth, &mut into.tolerate_missing_hugetlb_controller);
    section.key("ignore_image_defined_volumes", truth, &mut into.ignore_image_defined_volumes);
    section.key("enable_selinux", truth, &mut into.enable_selinux);
    section.key("selinux_category_range", whole(2..=1024), &mut into.selinux_category_range);
    section.key("disable_apparmor", truth, &mut into.disable_apparmor);
    section.key("unset_seccomp_profile", some(by(seccomp_profile)), &mut into.unset_seccomp_profile);
    section.key(
        "device_ownership_from_security_context",
        truth,
        &mut into.device_ownership_from_security_context,
    );
    section.key("enable_cdi", truth, &mut into.enable_cdi);
    section.list("cdi_spec_dirs", by(absolute_path), &mut into.cdi_spec_dirs);
    section.key("blockio_config_file", some(by(absolute_path)), &mut into.blockio_config_file);
    section.key("ignore_blockio_not_enabled_errors", truth, &mut into.ignore_blockio_not_enabled_errors);
    section.key("ignore_rdt_not_enabled_errors", truth, &mut into.ignore_rdt_not_enabled_errors);
    section.key("restore_from_images", truth, &mut into.restore_from_images);
    section.tables("handlers", handler, &mut into.handlers);
    if !into.handlers.contains_key(&into.default_handler) {
        let names: Vec<_> = into.handlers.keys().map(|name| format!("\"{name}\"")).collect();
        section.refuse("default_handler", format!("must be one of the handlers: {}", names.join(", ")));
    }
}

fn handler(section: &mut Section<'_, '_>, into: &mut HandlerConfig) {
    section.key("runtime_type", text, &mut into.runtime_type);
    section.key("runtime_path", some(by(absolute_path)), &mut into.runtime_path);
    section.key("snapshotter", some(text), &mut into.snapshotter);
    section.key("base_runtime_spec", some(by(absolute_path)), &mut into.base_runtime_spec);
    section.key("cni_conf_dir", some(by(absolute_path)), &mut into.cni_conf_dir);
    section.key("cni_max_conf_num", some(whole(0..=100)), &mut into.cni_max_conf_num);
    section.list("pod_annotations", text, &mut into.pod_annotations);
    section.list("container_annotations", text, &mut into.container_annotations);
    section.key("privileged_without_host_devices", truth, &mut into.privileged_without_host_devices);
    section.key(
        "privileged_without_host_devices_all_devices_allowed",
        truth,
        &mut into.privileged_without_host_devices_all_devices_allowed,
    );
    section.key("cgroup_writable", truth, &mut into.cgroup_writable);
    section.table("options", |section, into| section.entries(plain, into), &mut into.options);
}

fn network(section: &mut Section<'_, '_>, into: &mut NetworkConfig) {
    const PREFERENCES: [(&str, IpPreference); 3] =
        [("ipv4", IpPreference::Ipv4), ("ipv6", IpPreference::Ipv6), ("cni", IpPreference::Cni)];
    const TIMEOUT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10 * 60)];
    section.key("conf_dir", by(absolute_path), &mut into.conf_dir);
    section.list("bin_dirs", by(absolute_path), &mut into.bin_dirs);
    section.key("max_conf_num", whole(0..=100), &mut into.max_conf_num);
    section.key("cache_dir", by(absolute_path), &mut into.cache_dir);
    section.key("netns_dir", by(absolute_path), &mut into.netns_dir);
    section.key("conf_template", some(by(absolute_path)), &mut into.conf_template);
    section.key("ip_preference", word(&PREFERENCES), &mut into.ip_preference);
    section.key("plugin_timeout", duration(TIMEOUT[0]..=TIMEOUT[1]), &mut into.plugin_timeout);
    section.key("setup_serially", truth, &mut into.setup_serially);
}

fn image(section: &mut Section<'_, '_>, into: &mut ImageConfig) {
    const IDLE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 3600)];
    section.key("snapshotter", text, &mut into.snapshotter);
    section.key("pause_image", some(text), &mut into.pause_image);
    section.key("max_concurrent_downloads", whole(1..=64), &mut into.max_concurrent_downloads);
    section.key("pull_progress_timeout", duration(IDLE[0]..=IDLE[1]), &mut into.pull_progress_timeout);
    section.key("max_layer_bytes", size(1 << 20..=16 << 40), &mut into.max_layer_bytes);
    section.key("discard_unpacked_layers", truth, &mut into.discard_unpacked_layers);
}

fn registry(section: &mut Section<'_, '_>, into: &mut RegistryConfig) {
    section.list("config_dirs", by(absolute_path), &mut into.config_dirs);
    section.table("headers", |section, into| section.entries(header, into), &mut into.headers);
}

fn streaming(section: &mut Section<'_, '_>, into: &mut StreamingConfig) {
    const IDLE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600)];
    section.key("address", by(ip_address), &mut into.address);
    section.key("port", whole(0..=u16::MAX), &mut into.port);
    section.key("idle_timeout", duration(IDLE[0]..=IDLE[1]), &mut into.idle_timeout);
    let (mut certificate, mut key) = (None, None);
    section.key("tls_certificate", some(by(certificate_source)), &mut certificate);
    section.key("tls_key", some(by(absolute_path)), &mut key);
    into.tls = match (certificate, key) {
        (Some(StreamingTls::Files { certificate, .. }), Some(key)) => {
            Some(StreamingTls::Files { certificate, key })
        }
        (Some(StreamingTls::Files { .. }), None) => {
            return section.refuse("tls_certificate", "must come with streaming.tls_key".into());
        }
        (_, Some(_)) => {
            return section.refuse("tls_key", "must come with a file as streaming.tls_certificate".into());
        }
        (certificate, None) => certificate,
    };
}

/// A certificate's file, whose key is told apart, or our own.
fn certificate_source(text: &str) -> Read<StreamingTls> {
    if text == "self-signed" {
        return Ok(StreamingTls::SelfSigned);
    }
    let certificate = absolute_path(text);
    let certificate =
        certificate.map_err(|_| "must be \"self-signed\" or an absolute path without \"..\"")?;
    Ok(StreamingTls::Files { certificate, key: PathBuf::new() })
}

fn metrics(section: &mut Section<'_, '_>, into: &mut MetricsConfig) {
    section.key("listen", some(by(metrics_address)), &mut into.listen);
}

fn traces(section: &mut Section<'_, '_>, into: &mut TracesConfig) {
    section.key("endpoint", some(by(collector)), &mut into.endpoint);
    section.key("sampling_rate_per_million", whole(0..=1_000_000), &mut into.sampling_rate_per_million);
    section.key("service_name", text, &mut into.service_name);
    if !cfg!(feature = "traces") {
        section.refuse("endpoint", NO_TRACES.into());
    }
}

fn log(section: &mut Section<'_, '_>, into: &mut LogConfig) {
    const FORMATS: [(&str, LogFormat); 4] = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("logfmt", LogFormat::Logfmt),
        ("json", LogFormat::Json),
    ];
    section.key("level", by(log_level), &mut into.level);
    section.key("format", word(&FORMATS), &mut into.format);
}

/// A header's values: one string, or a list of them. Never repeated in a mistake, since it may be a secret.
fn header(value: &DeValue<'_>) -> Read<Vec<String>> {
    let valid = |text: &str| text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let values = match value {
        DeValue::String(text) => Some(vec![text.to_string()]),
        DeValue::Array(list) => {
            list.iter().map(|element| element.get_ref().as_str().map(str::to_owned)).collect()
        }
        _ => None,
    };
    values
        .filter(|values| values.iter().all(|text| valid(text)))
        .ok_or_else(|| "must be a string of printable ASCII, or a list of them".into())
}

/// Any value, as it stands.
fn plain(value: &DeValue<'_>) -> Read<toml::Value> {
    let spanned = toml::Spanned::new(0..0, value.clone());
    toml::Value::deserialize(ValueDeserializer::from(spanned)).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        match Loaded::parse(text) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(Mistake::to_string).collect(),
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let loaded = Loaded::parse("").unwrap();
        assert_eq!(loaded.config, Config::default());
        assert!(loaded.unknown.is_empty());
    }

    #[test]
    fn a_file_overrides_what_it_names_and_nothing_else() {
        let text = r#"
            listen = "/run/a.sock"
            runtime.exec_drain = "1m 30s"
            runtime.handlers.runc.options = { SystemdCgroup = true, IoUid = 7 }
            runtime.handlers.kata.runtime_type = "io.containerd.kata.v2"
            image.max_layer_bytes = "2GiB"
            [network]
            bin_dirs = ["/a", "/b"]
            max_conf_num = 0
            [registry.headers]
            X-One = "1"
            X-Two = ["2", "3"]
        "#;
        let mut expected = Config { listen: "/run/a.sock".into(), ..Config::default() };
        expected.runtime.exec_drain = Duration::from_secs(90);
        let options = [("SystemdCgroup".to_owned(), true.into()), ("IoUid".to_owned(), 7.into())];
        expected.runtime.handlers.get_mut("runc").unwrap().options = toml::Table::from_iter(options);
        let kata = HandlerConfig { runtime_type: "io.containerd.kata.v2".into(), ..HandlerConfig::default() };
        expected.runtime.handlers.insert("kata".into(), kata);
        expected.image.max_layer_bytes = 2 << 30;
        expected.network.bin_dirs = vec!["/a".into(), "/b".into()];
        expected.network.max_conf_num = 0;
        expected.registry.headers.insert("X-One".into(), vec!["1".into()]);
        expected.registry.headers.insert("X-Two".into(), vec!["2".into(), "3".into()]);
        assert_eq!(Loaded::parse(text).unwrap().config, expected);
    }

    #[test]
    fn each_wrong_value_is_told_with_line_key_and_range() {
        const PATH: &str = "must be an absolute path without \"..\"";
        let long = format!("listen = \"/{}\"", "x".repeat(107));
        let cases = [
            ("listen = 3", "1: listen: must be a string in quotes"),
            ("listen = \"\"", "1: listen: must not be empty"),
            (&long, "1: listen: must be a socket's absolute path of at most 107 bytes"),
            (
                "listen = \"tcp://1.2.3.4:5\"",
                "1: listen: must be a socket's absolute path without \"..\", with or without unix:// before it",
            ),
            (
                "listen = \"/run/containerd/containerd.sock\"",
                "1: listen: must be another socket than containerd's",
            ),
            ("\nroot = \"a/b\"", &format!("2: root: {PATH}")),
            ("root = \"/a/../b\"", &format!("1: root: {PATH}")),
            (
                "root = \"/a\"\nstate = \"/a\"",
                "2: state: must be another folder than root: it is wiped at a reboot",
            ),
            (
                "containerd.namespace = \"a/b\"",
                "1: containerd.namespace: must be letters and digits, joined by single \".\", \"_\" or \"-\", at most 76",
            ),
            ("network = 3", "1: network: must be a table"),
            (
                "[network]\n\nmax_conf_num = -1",
                "3: network.max_conf_num: must be a whole number from 0 to 100",
            ),
            (
                "[network]\nmax_conf_num = 1.5",
                "2: network.max_conf_num: must be a whole number from 0 to 100",
            ),
            ("[network]\nbin_dirs = \"/a\"", "2: network.bin_dirs: must be a list in brackets"),
            ("[network]\nbin_dirs = [\n\"/a\",\n\"b\"]", &format!("4: network.bin_dirs[1]: {PATH}")),
            (
                "[network]\nplugin_timeout = \"11m\"",
                "2: network.plugin_timeout: must be a duration from \"1s\" to \"10m\"",
            ),
            (
                "[network]\nip_preference = \"v4\"",
                "2: network.ip_preference: must be one of \"ipv4\", \"ipv6\", \"cni\"",
            ),
            ("runtime.exec_drain = 5", "1: runtime.exec_drain: must be a duration from \"100ms\" to \"10m\""),
            (
                "runtime.max_log_line = \"2MiB\"",
                "1: runtime.max_log_line: must be a size from \"1KiB\" to \"1MiB\", or that in bytes",
            ),
            ("runtime.enable_cdi = \"yes\"", "1: runtime.enable_cdi: must be true or false"),
            (
                "runtime.cgroup_driver = \"x\"",
                "1: runtime.cgroup_driver: must be one of \"cgroupfs\", \"systemd\"",
            ),
            (
                "runtime.unset_seccomp_profile = \"localhost/x\"",
                "1: runtime.unset_seccomp_profile: must be \"runtime/default\", \"unconfined\" or \"localhost/\" and an absolute path",
            ),
            (
                "runtime.default_handler = \"kata\"",
                "1: runtime.default_handler: must be one of the handlers: \"runc\"",
            ),
            (
                "runtime.handlers.kata.cgroup_writable = 1",
                "1: runtime.handlers.kata.cgroup_writable: must be true or false",
            ),
            (
                "image.max_concurrent_downloads = 0",
                "1: image.max_concurrent_downloads: must be a whole number from 1 to 64",
            ),
            (
                "image.max_layer_bytes = 99999999999999",
                "1: image.max_layer_bytes: must be a size from \"1MiB\" to \"16TiB\", or that in bytes",
            ),
            (
                "[registry.headers]\nA = [1]",
                "2: registry.headers.A: must be a string of printable ASCII, or a list of them",
            ),
            ("streaming.address = \"0.0.0.0\"", "1: streaming.address: must be an IP address of this node"),
            (
                "streaming.tls_certificate = \"own\"",
                "1: streaming.tls_certificate: must be \"self-signed\" or an absolute path without \"..\"",
            ),
            (
                "streaming.tls_certificate = \"/a\"",
                "1: streaming.tls_certificate: must come with streaming.tls_key",
            ),
            (
                "streaming.tls_key = \"/a\"",
                "1: streaming.tls_key: must come with a file as streaming.tls_certificate",
            ),
            (
                "metrics.listen = \"localhost:9464\"",
                "1: metrics.listen: must be an IP address and a port, as in \"127.0.0.1:9464\", or unix:// and a socket's absolute path",
            ),
            (
                "traces.sampling_rate_per_million = 1000001",
                "1: traces.sampling_rate_per_million: must be a whole number from 0 to 1000000",
            ),
            ("metrics.listen = \"127.0.0.1:0\"", "1: metrics.listen: must name a port: 1 to 65535"),
            ("streaming.port = 65536", "1: streaming.port: must be a whole number from 0 to 65535"),
            (
                "log.level = \"inof\"",
                "1: log.level: must be one of off, error, warn, info, debug, trace, or several as module=level, with commas between",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(mistakes(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_collector_is_taken_where_it_can_be_told() {
        let told = mistakes("[traces]\nendpoint = \"http://127.0.0.1:4317\"");
        match cfg!(feature = "traces") {
            true => assert!(told.is_empty(), "{told:?}"),
            false => assert_eq!(told, [format!("2: traces.endpoint: {NO_TRACES}")]),
        }
        let told = mistakes("[traces]\nendpoint = \"127.0.0.1:4317\"");
        let expected =
            "2: traces.endpoint: must be \"http://\", a host and a port, as in \"http://127.0.0.1:4317\"";
        assert!(told.contains(&expected.to_owned()), "{told:?}");
        assert!(mistakes("[traces]\nsampling_rate_per_million = 7").is_empty());
    }

    #[test]
    fn all_mistakes_come_at_once_in_the_order_of_the_file() {
        let text =
            "listen = 3\nroot = /bogus\n[image]\nmax_concurrent_downloads = 99\n[runtime]\nenable_cdi = 0\n";
        let lines: Vec<_> =
            mistakes(text).iter().map(|text| text.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(lines, ["1", "2", "4", "6"]);
    }

    #[test]
    fn unknown_keys_are_told_with_their_full_path_and_line() {
        let text = "a = 1\n[network]\nbin_dir = \"/x\"\n[runtime.handlers.kata]\nx.y = 1\n[nope]\nz = 1";
        let unknown: Vec<_> = Loaded::parse(text).unwrap().unknown.iter().map(Mistake::to_string).collect();
        let expected = [
            "1: a: unknown key",
            "3: network.bin_dir: unknown key",
            "5: runtime.handlers.kata.x: unknown key",
            "6: nope: unknown key",
        ];
        assert_eq!(unknown, expected);
    }

    #[test]
    fn an_error_names_the_file_on_each_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "listen = 3\nroot = 4\n").unwrap();
        let text = Loaded::load(&path).unwrap_err().to_string();
        let file = path.display();
        assert_eq!(
            text,
            format!(
                "the configuration is wrong:\n{file}:1: listen: must be a string in quotes\n{file}:2: root: must be a string in quotes"
            )
        );
    }

    proptest::proptest! {
        #[test]
        fn no_document_panics(text in "[a-z0-9\\[\\]{}=.,\"'# \n-]{0,80}") {
            let _ = Loaded::parse(&text);
        }
    }
}
