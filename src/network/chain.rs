//! One network of one pod: its plugins in order for ADD, in reverse for DEL (CNI spec, section 3).

use std::path::Path;

use serde_json::{Map, Value};

use super::cache::Entry;
use super::conflist::{NetworkList, PluginConf};
use super::error::{Call, NetworkError};
use super::plugin::{Environment, Runner};
use super::result::CniResult;
use super::version::Version;

/// What all plugins of one network are told about the pod.
#[derive(Clone, Debug)]
pub(super) struct Attaching<'a> {
    pub list: &'a NetworkList,
    pub environment: Environment<'a>,
    pub capabilities: &'a Map<String, Value>,
}

impl Attaching<'_> {
    /// ADD. The cache tells of the attempt before the first plugin runs, and of the result after the last. With a
    /// program missing nothing runs, so nothing is on record that only that program could undo.
    pub async fn add(&self, runner: &Runner<'_>, cache_dir: &Path) -> Result<CniResult, NetworkError> {
        for plugin in &self.list.plugins {
            runner.find(&self.call("ADD", plugin))?;
        }
        let mut entry = self.entry();
        entry.store(cache_dir)?;
        let mut result: Option<CniResult> = None;
        for plugin in &self.list.plugins {
            let call = self.call("ADD", plugin);
            let printed = self.run(runner, &call, plugin, result.as_ref()).await?;
            let bad = |reason| NetworkError::BadResult { call, reason };
            result = Some(CniResult::parse(&printed, self.list.version).map_err(bad)?);
        }
        let result = result.expect("a network list has at least one plugin: its parser refuses others");
        entry.result = Some(result.raw().clone());
        entry.store(cache_dir)?;
        Ok(result)
    }

    /// DEL, with the result of the ADD where there is one. What a plugin no longer finds is gone, as is wanted.
    pub async fn del(
        &self,
        runner: &Runner<'_>,
        cache_dir: &Path,
        previous: Option<&CniResult>,
    ) -> Result<(), NetworkError> {
        let previous = previous.filter(|_| self.list.version >= Version::PREVIOUS_AT_DEL);
        for plugin in self.list.plugins.iter().rev() {
            let call = self.call("DEL", plugin);
            match self.run(runner, &call, plugin, previous).await {
                Err(error) if is_gone(&error, self.environment.netns) => {
                    tracing::debug!("taken as detached: {error}");
                }
                other => drop(other?),
            }
        }
        self.entry().remove(cache_dir)
    }

    fn entry(&self) -> Entry {
        let env = &self.environment;
        let mut entry = Entry::new(&self.list.name, env.container_id, env.if_name, &self.list.source);
        entry.netns = env.netns.map(|path| path.display().to_string()).unwrap_or_default();
        entry.cni_args = Some(env.args.to_vec());
        entry.capability_args = Some(self.capabilities.clone());
        entry
    }

    fn call(&self, command: &'static str, plugin: &PluginConf) -> Call {
        Call { command, plugin: plugin.kind.clone(), network: self.list.name.clone() }
    }

    async fn run(
        &self,
        runner: &Runner<'_>,
        call: &Call,
        plugin: &PluginConf,
        previous: Option<&CniResult>,
    ) -> Result<Vec<u8>, NetworkError> {
        let stdin = self
            .list
            .execution_config(plugin, previous, self.capabilities)
            .map_err(|reason| NetworkError::BadResult { call: call.clone(), reason })?;
        runner.run(call, &self.environment, &stdin).await
    }
}

/// Plugins should not fail a DEL over what is missing, yet some do: go-cni takes the same words for success.
fn is_gone(error: &NetworkError, netns: Option<&Path>) -> bool {
    let NetworkError::Plugin { said, .. } = error else { return false };
    said.text.contains("not found") || netns.is_none() && said.text.contains("no such file or directory")
}

/// Asks each plugin of a network whether it could attach (CNI spec, "STATUS"); older ones cannot be asked, but must
/// be there.
pub(super) async fn status(list: &NetworkList, runner: &Runner<'_>) -> Result<(), NetworkError> {
    let nothing = Map::new();
    let attaching = Attaching { list, environment: Environment::default(), capabilities: &nothing };
    for plugin in &list.plugins {
        let call = attaching.call("STATUS", plugin);
        if list.version >= Version::STATUS {
            attaching.run(runner, &call, plugin, None).await?;
        } else {
            runner.find(&call)?;
        }
    }
    Ok(())
}
