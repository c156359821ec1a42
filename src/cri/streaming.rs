//! Exec, Attach, PortForward: they check, and answer with the URL where a client gets its streams.

use std::io;
use std::sync::Arc;

use tonic::Status;

use super::RuntimeService;
use super::request::{checked_command, id};
use crate::error::chain;
use crate::field::{self, FieldError};
use crate::proto::cri;
use crate::sandbox::SandboxError;
use crate::streaming::{Command, Forward, Wants, Work};

impl RuntimeService {
    pub(super) fn exec_url(&self, request: cri::ExecRequest) -> Result<String, Status> {
        let cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
        let wants = checked(Wants { stdin, stdout, stderr, tty })?;
        checked_command(&cmd)?;
        let container = self.containers.find(id("container_id", &container_id)?)?;
        self.containers.must_run(&container)?;
        let containers = self.containers.clone();
        let run = Box::new(move |streams| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move {
                let ended = containers.exec_session(container, cmd, tty, streams).await;
                ended.map_err(|error| chain(&error))
            })
        });
        Ok(self.streaming.url(Work::Exec(Command { wants, run }))?)
    }

    pub(super) fn attach_url(&self, request: cri::AttachRequest) -> Result<String, Status> {
        let cri::AttachRequest { container_id, stdin, tty, stdout, stderr } = request;
        let wants = checked(Wants { stdin, stdout, stderr, tty })?;
        let container = self.containers.find(id("container_id", &container_id)?)?;
        self.containers.must_run(&container)?;
        let containers = self.containers.clone();
        let run = Box::new(move |streams| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move {
                let ended = containers.attach(container, streams).await;
                ended.map(|()| 0).map_err(|error| chain(&error))
            })
        });
        Ok(self.streaming.url(Work::Attach(Command { wants, run }))?)
    }

    pub(super) fn port_forward_url(&self, request: cri::PortForwardRequest) -> Result<String, Status> {
        let ports = request.port.iter().enumerate().map(|(n, port)| match u16::try_from(*port) {
            Ok(port @ 1..) => Ok(port),
            _ => Err(field::error(format!("port[{n}]"), format!("{port} is no port"))),
        });
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let sandbox = self.sandboxes().find(id("pod_sandbox_id", &request.pod_sandbox_id)?)?;
        sandbox.pause_pid()?;
        let sandboxes = self.sandboxes().clone();
        let dial = Arc::new(move |port| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
            let (sandboxes, sandbox) = (sandboxes.clone(), sandbox.clone());
            Box::pin(async move {
                let dialed = sandboxes.dial(&sandbox, port).await;
                dialed.map_err(|error: SandboxError| io::Error::other(chain(&error)))
            })
        });
        Ok(self.streaming.url(Work::PortForward(Forward { dial, ports }))?)
    }
}

/// A terminal has one output, and nothing at all cannot be streamed.
fn checked(wants: Wants) -> Result<Wants, FieldError> {
    if wants.tty && wants.stderr {
        return Err(field::error("stderr", "cannot be had with tty, where both outputs are one"));
    }
    if !(wants.stdin || wants.stdout || wants.stderr) {
        return Err(field::error("stdin", "or stdout or stderr must be asked for"));
    }
    Ok(wants)
}
