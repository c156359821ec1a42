//! The command, from end to end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:1"
  [plugins."io.containerd.grpc.v1.cri".registry.headers]
    X-Token = ["secret-header"]
"#;

/// Without a containerd: its socket is one that nobody has.
fn run(dir: &Path, text: &str, arguments: &[&str]) -> Output {
    let file = dir.join("containerd.toml");
    let socket = dir.join("nobody.sock");
    fs::write(&file, format!("{text}\n[grpc]\naddress = {:?}\n", socket.display().to_string())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cridge"));
    command.args(["config", "migrate", "--from"]).arg(&file).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_configuration_is_printed_and_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), CONFIG, &["--release", "1.7"]);
    let (config, report) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{report}");
    assert!(config.contains("pause_image = \"registry.example/pause:1\"\n"), "{config}");
    assert!(config.contains("# plugins.\"io.containerd.grpc.v1.cri\".sandbox_image\n"), "{config}");
    assert!(report.starts_with("read as by containerd 1.7: --release says so"), "{report}");
    assert!(!report.contains("secret-header"), "{report}");
    let file = dir.path().join("cridge.toml");
    fs::write(&file, config).unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_cridge")).args(["config", "check"]).arg(&file).output().unwrap();
    assert!(check.status.success(), "{}", text(&check.stdout));
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out/cridge.toml");
    let path = file.to_str().unwrap();
    let output = run(dir.path(), CONFIG, &["--output", path]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&file).unwrap();
    let output = run(dir.path(), "version = 2", &["--output", path]);
    let told = text(&output.stderr);
    assert!(!output.status.success() && told.ends_with("is there already; --force replaces it\n"), "{told}");
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    assert!(run(dir.path(), "version = 2", &["--output", path, "--force"]).status.success());
    assert_ne!(fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn what_cridge_lacks_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let verifiers = dir.path().join("verifiers");
    fs::create_dir(&verifiers).unwrap();
    let verifier = format!(
        "version = 3\n[plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = {:?}",
        verifiers.display().to_string()
    );
    assert!(run(dir.path(), &verifier, &[]).status.success());
    let program = verifiers.join("judge");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let nri = format!(
        "version = 3\n[plugins.'io.containerd.nri.v1.nri']\nplugin_path = {:?}",
        verifiers.display().to_string()
    );
    let shim = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.vm]\n\
                runtime_type = 'io.containerd.vm.v2'\nsandboxer = 'shim'";
    for (text_of, key) in [(verifier.as_str(), "image-verifier"), (&nri, "nri.v1"), (shim, "sandboxer")] {
        let file = dir.path().join("none.toml");
        let output = run(dir.path(), text_of, &["--output", file.to_str().unwrap()]);
        let report = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert!(report.lines().any(|line| line.starts_with("REFUSED") && line.contains(key)), "{report}");
        assert!(output.stdout.is_empty() && !file.exists(), "{report}");
        let json = run(dir.path(), text_of, &["--json"]);
        assert_eq!(json.status.code(), Some(1));
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&json["refused"], &json["config"]), (&true.into(), &serde_json::Value::Null));
    }
    // Off is off.
    assert!(run(dir.path(), &format!("{nri}\ndisable = true"), &[]).status.success());
    assert!(
        run(dir.path(), &format!("disabled_plugins = ['io.containerd.nri.v1.nri']\n{nri}"), &[])
            .status
            .success()
    );
}

#[test]
fn the_report_is_told_to_machines() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), CONFIG, &["--json", "--release", "1.6"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["refused"], false);
    let items = json["items"].as_array().unwrap();
    let item =
        |key: &str| items.iter().find(|item| item["key"].as_str().is_some_and(|found| found.ends_with(key)));
    let pause = item(".sandbox_image").unwrap();
    assert_eq!(pause["outcome"], "carried");
    assert_eq!(pause["text"], "image.pause_image = \"registry.example/pause:1\"");
    assert!(json["config"].as_str().unwrap().contains("pause_image"), "{json:#}");
}

#[test]
fn bad_input_is_told_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    for (text_of, told) in [
        ("a = \n", "containerd.toml:1: "),
        ("version = 9", ": its version is 9, and 1 to 4 are known\n"),
        ("imports = ['nothing.toml']", "nothing.toml, which is imported: containerd would not start"),
    ] {
        let output = run(dir.path(), text_of, &[]);
        let error = text(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{error}");
        assert!(
            error.starts_with("cridge: ") && error.contains(told) && error.lines().count() == 1,
            "{error}"
        );
    }
}

#[test]
fn a_password_of_a_proxy_goes_into_its_own_file_alone() {
    // Its containerd is this test's own process: whoever listens on the socket is asked for its environment.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    let script = "import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(8)\n\
                  print(flush=True)\nwhile True:\n    c,_=s.accept()\n    c.close()\n";
    let mut server = Command::new("python3")
        .args(["-c", script])
        .arg(&socket)
        .env("HTTPS_PROXY", "http://user:secret-proxy@proxy.example:3128")
        .env("NO_PROXY", "10.0.0.0/8")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let ready =
        std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut line);
    assert_eq!(ready.unwrap(), 1);
    let drop_in = dir.path().join("cridge.service.d/environment.conf");
    let output = run(dir.path(), CONFIG, &["--unit-dropin", drop_in.to_str().unwrap()]);
    server.kill().unwrap();
    server.wait().unwrap();
    let (config, report) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{report}");
    assert!(!config.contains("secret-proxy") && !report.contains("secret-proxy"), "{config}{report}");
    assert!(report.contains("# HTTPS_PROXY=http://proxy.example:3128"), "{report}");
    let written = fs::read_to_string(&drop_in).unwrap();
    assert!(
        written.contains("Environment=\"HTTPS_PROXY=http://user:secret-proxy@proxy.example:3128\"\n"),
        "{written}"
    );
    assert_eq!(fs::metadata(&drop_in).unwrap().permissions().mode() & 0o777, 0o600);
}
