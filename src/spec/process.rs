//! What runs: arguments, environment, working folder; and the process of an exec.

use std::path::PathBuf;

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::{Process, Spec};

use super::SpecError;
use super::field;
use crate::proto::cri;

/// What containerd gives a process whose image names no PATH.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process with a terminal is told of it.
const TERM: &str = "TERM=xterm";

/// The arguments by docker's rules: a command takes the place of the image's entrypoint and arguments, arguments alone
/// that of the image's arguments.
///
/// # Errors
/// When neither the config nor the image has any.
pub(super) fn args(config: &cri::ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let texts = [("command", &config.command), ("args", &config.args)];
    for (name, list) in texts {
        for (n, value) in list.iter().enumerate() {
            field::text(&format!("config.{name}[{n}]"), value)?;
        }
    }
    let none = Vec::new();
    let (mut command, mut args) = (&config.command, &config.args);
    if command.is_empty() {
        if args.is_empty() {
            args = image.cmd().as_ref().unwrap_or(&none);
        }
        // An image resets its base's entrypoint by an empty one.
        let entrypoint = image.entrypoint().as_ref().unwrap_or(&none);
        if *entrypoint != [""] {
            command = entrypoint;
        }
    }
    let all: Vec<String> = command.iter().chain(args).cloned().collect();
    if all.is_empty() {
        return Err(SpecError::invalid(
            "config.command",
            "no command: neither the config nor the image (entrypoint, cmd) names one",
        ));
    }
    Ok(all)
}

/// The environment: PATH, TERM, HOSTNAME, then the image's, then the config's, each winning over those before.
///
/// # Errors
/// For a key that is empty or holds `=`, and for a value that is not UTF-8: the spec is JSON and cannot carry it.
pub(super) fn env(
    base: &[String],
    hostname: &str,
    image: &ImageConfig,
    config: &cri::ContainerConfig,
) -> Result<Vec<String>, SpecError> {
    let mut env = base.to_vec();
    set(&mut env, DEFAULT_PATH);
    if config.tty {
        set(&mut env, TERM);
    }
    set(&mut env, &format!("HOSTNAME={hostname}"));
    for variable in image.env().iter().flatten() {
        set(&mut env, field::text("image.config.Env", variable)?);
    }
    for (n, variable) in config.envs.iter().enumerate() {
        set(&mut env, &variable_of(n, variable)?);
    }
    Ok(env)
}

/// One variable of the config as `key=value`.
fn variable_of(n: usize, variable: &cri::KeyValue) -> Result<String, SpecError> {
    let name = format!("config.envs[{n}].key");
    let key = field::text(&name, &variable.key)?;
    if key.is_empty() {
        return Err(SpecError::invalid(name, "is empty"));
    }
    if key.contains('=') {
        return Err(SpecError::invalid(name, format!("{key:?} holds `=`")));
    }
    let name = format!("config.envs[{n}].value");
    let Ok(value) = std::str::from_utf8(&variable.value) else {
        return Err(SpecError::invalid(
            name,
            format!(
                "the value of {key} is not UTF-8, and an OCI spec, being JSON, cannot carry it; encode it"
            ),
        ));
    };
    Ok(format!("{key}={}", field::text(&name, value)?))
}

/// Sets one `key=value` in its old place or at the end; a key without value is unset, as containerd does.
fn set(env: &mut Vec<String>, variable: &str) {
    let key = |text: &str| text.split_once('=').map_or(text.len(), |(key, _)| key.len());
    let name = &variable[..key(variable)];
    let place = env.iter().position(|old| &old[..key(old)] == name);
    match (place, name.len() < variable.len()) {
        (Some(place), true) => env[place] = variable.into(),
        (None, true) => env.push(variable.into()),
        (Some(place), false) => drop(env.remove(place)),
        (None, false) => {}
    }
}

/// The working folder: the config's, else the image's, else the base's.
pub(super) fn cwd(
    base: &Process,
    image: &ImageConfig,
    config: &cri::ContainerConfig,
) -> Result<PathBuf, SpecError> {
    match (config.working_dir.as_str(), image.working_dir().as_deref().unwrap_or_default()) {
        ("", "") => Ok(base.cwd().clone()),
        ("", dir) => field::container_path("image.config.WorkingDir", dir),
        (dir, _) => field::container_path("config.working_dir", dir),
    }
}

/// The process of an exec in a container: the stored spec's own, with command and terminal replaced.
///
/// # Errors
/// When the stored spec has no process, or the command is empty.
pub fn exec_process(stored: &Spec, command: &[String], terminal: bool) -> Result<Process, SpecError> {
    if command.is_empty() {
        return Err(SpecError::invalid("cmd", "is empty: name a program to run"));
    }
    for (n, value) in command.iter().enumerate() {
        field::text(&format!("cmd[{n}]"), value)?;
    }
    let Some(mut process) = stored.process().clone() else {
        return Err(SpecError::invalid("container_id", "the container's stored spec has no process to copy"));
    };
    process.set_args(Some(command.to_vec()));
    process.set_command_line(None);
    process.set_terminal(Some(terminal));
    if terminal {
        let mut env = process.env_mut().take().unwrap_or_default();
        set(&mut env, TERM);
        process.set_env(Some(env));
    }
    Ok(process)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let mut image = ImageConfig::default();
        let list = |texts: &[&str]| Some(texts.iter().map(|text| text.to_string()).collect());
        image.set_entrypoint(list(entrypoint));
        image.set_cmd(list(cmd));
        image
    }

    fn config(command: &[&str], args: &[&str]) -> cri::ContainerConfig {
        cri::ContainerConfig {
            command: command.iter().map(|text| text.to_string()).collect(),
            args: args.iter().map(|text| text.to_string()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn arguments_follow_dockers_rules() {
        let both = image(&["entry"], &["cmd"]);
        for (command, args_, image, expected) in [
            (&[][..], &[][..], &both, &["entry", "cmd"][..]),
            (&[], &["a"], &both, &["entry", "a"]),
            (&["c"], &[], &both, &["c"]),
            (&["c"], &["a"], &both, &["c", "a"]),
            (&[], &[], &image(&[""], &["cmd"]), &["cmd"]),
            (&[], &["a"], &image(&[""], &["cmd"]), &["a"]),
            (&[], &[], &image(&["", "x"], &[]), &["", "x"]),
        ] {
            assert_eq!(args(&config(command, args_), image).unwrap(), expected);
        }
    }

    #[test]
    fn nothing_to_run_is_an_error() {
        for image in [image(&[], &[]), image(&[""], &[])] {
            let error = args(&config(&[], &[]), &image).unwrap_err();
            assert!(error.to_string().starts_with("config.command: "), "{error}");
        }
        let error = args(&config(&["a"], &["b", "c\0"]), &image(&[], &[])).unwrap_err();
        assert!(error.to_string().starts_with("config.args[1]: "), "{error}");
    }

    proptest! {
        #[test]
        fn a_command_of_the_config_hides_the_image(
            command in prop::collection::vec("[a-z]{0,3}", 1..3), rest in prop::collection::vec("[a-z]{0,3}", 0..3),
            entrypoint in prop::collection::vec("[A-Z]{0,3}", 0..3), cmd in prop::collection::vec("[A-Z]{0,3}", 0..3),
        ) {
            let mut image = ImageConfig::default();
            image.set_entrypoint(Some(entrypoint));
            image.set_cmd(Some(cmd));
            let config = cri::ContainerConfig { command: command.clone(), args: rest.clone(), ..Default::default() };
            prop_assert_eq!(args(&config, &image).unwrap(), [command, rest].concat());
        }
    }

    #[test]
    fn later_variables_win_in_the_earlier_ones_place() {
        let mut image = ImageConfig::default();
        image.set_env(Some(vec!["A=1".into(), "B=2".into(), "PATH=/img".into(), "HOSTNAME".into()]));
        let mut config = config(&[], &[]);
        for (key, value) in [("B", "3=4"), ("C", "")] {
            config.envs.push(cri::KeyValue { key: key.into(), value: value.as_bytes().to_vec().into() });
        }
        config.tty = true;
        let base = ["X=0".to_owned()];
        let expected = ["X=0", "PATH=/img", "TERM=xterm", "A=1", "B=3=4", "C="];
        assert_eq!(env(&base, "h", &image, &config).unwrap(), expected);
        assert_eq!(
            env(&[], "h", &ImageConfig::default(), &Default::default()).unwrap(),
            [DEFAULT_PATH, "HOSTNAME=h"]
        );
    }

    #[test]
    fn a_variable_that_json_or_execve_cannot_carry_is_refused() {
        for (key, value, name) in [
            ("", &b"x"[..], "config.envs[0].key: "),
            ("a=b", b"x", "config.envs[0].key: "),
            ("a\0", b"x", "config.envs[0].key: "),
            ("a", b"\xff", "config.envs[0].value: "),
            ("a", b"\0", "config.envs[0].value: "),
        ] {
            let mut config = config(&[], &[]);
            config.envs.push(cri::KeyValue { key: key.into(), value: value.to_vec().into() });
            let error = env(&[], "h", &ImageConfig::default(), &config).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn an_exec_is_the_stored_process_with_another_command() {
        let stored: Spec = serde_json::from_str(
            r#"{"process":{"user":{"uid":5},"cwd":"/w","args":["old"],"env":["A=1","TERM=vt100"],"noNewPrivileges":true}}"#,
        )
        .unwrap();
        let process = exec_process(&stored, &["ls".into()], true).unwrap();
        assert_eq!(process.args().as_deref().unwrap(), ["ls"]);
        assert_eq!(process.env().as_deref().unwrap(), ["A=1", "TERM=xterm"]);
        assert_eq!(
            (process.user().uid(), process.terminal(), process.no_new_privileges()),
            (5, Some(true), Some(true))
        );
        assert_eq!(
            exec_process(&stored, &["ls".into()], false).unwrap().env().as_deref().unwrap()[1],
            "TERM=vt100"
        );

        assert!(exec_process(&stored, &[], false).unwrap_err().to_string().starts_with("cmd: "));
        let bare: Spec = serde_json::from_str("{}").unwrap();
        assert!(exec_process(&bare, &["ls".into()], false).is_err());
    }
}
