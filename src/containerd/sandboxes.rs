//! The sandbox store that containerd has since 1.7: records that give-back needs (design, "How a pod starts").

use std::collections::HashMap;

use containerd_client::services::v1::sandbox as api;
use containerd_client::types;

use super::call::{Call, Forgiving as _};
use super::{Containerd, ContainerdError, RuntimeSelection, TypedBlob};
use crate::error::Kind;

type Result<T> = std::result::Result<T, ContainerdError>;

/// Where the built-in plugin keeps a sandbox' metadata in the record.
const METADATA_KEY: &str = "metadata";
/// Who runs the sandboxes of the built-in plugin's records, and so of ours.
const SANDBOXER: &str = "podsandbox";

impl Containerd {
    /// Writes the sandbox's record with its metadata extension and `name` label. `Kind::Unimplemented` on 1.6.
    pub async fn create_sandbox_record(
        &self,
        id: &str,
        name: &str,
        runtime: &RuntimeSelection,
        metadata: TypedBlob,
    ) -> Result<()> {
        let sandbox = types::Sandbox {
            sandbox_id: id.into(),
            runtime: Some(types::sandbox::Runtime {
                name: runtime.name.clone(),
                options: runtime.options.clone().map(Into::into),
            }),
            labels: HashMap::from([("name".into(), name.into())]),
            extensions: HashMap::from([(METADATA_KEY.into(), metadata.into())]),
            sandboxer: SANDBOXER.into(),
            ..Default::default()
        };
        let request = api::StoreCreateRequest { sandbox: Some(sandbox) };
        Call::record("create sandbox record", &id)
            .run(self.calls().sandboxes().create(request))
            .await
            .map(drop)
    }

    /// Replaces one extension, leaving all else; whether there is a record to have it. 1.6 keeps none.
    pub async fn set_sandbox_extension(&self, id: &str, key: &str, value: TypedBlob) -> Result<bool> {
        let sandbox = types::Sandbox {
            sandbox_id: id.into(),
            // Not changed, as `fields` leaves it out; but containerd reads through it and dies without.
            runtime: Some(types::sandbox::Runtime::default()),
            extensions: HashMap::from([(key.into(), value.into())]),
            ..Default::default()
        };
        let request =
            api::StoreUpdateRequest { sandbox: Some(sandbox), fields: vec![format!("extensions.{key}")] };
        let call = Call::record("update sandbox record", &id);
        match call.run(self.calls().sandboxes().update(request)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::Unimplemented || error.is_not_found() => Ok(false),
            // 1.7 has no code for an absent record.
            Err(error) if !error.is_away() && self.has_no_sandbox_record(id).await => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// That extension of every sandbox whose record has it, by id; of none on 1.6.
    pub async fn sandbox_extensions(&self, key: &str) -> Result<HashMap<String, TypedBlob>> {
        let of =
            |mut sandbox: types::Sandbox| Some((sandbox.sandbox_id, sandbox.extensions.remove(key)?.into()));
        Ok(self.sandbox_records().await?.into_iter().filter_map(of).collect())
    }

    /// The sandboxes of records as this one and the built-in plugin write them; none on 1.6.
    pub async fn sandboxes(&self) -> Result<Vec<String>> {
        // 1.7 does not keep who runs them.
        let ours = |sandbox: &types::Sandbox| [SANDBOXER, ""].contains(&sandbox.sandboxer.as_str());
        let records = self.sandbox_records().await?;
        Ok(records.into_iter().filter(ours).map(|sandbox| sandbox.sandbox_id).collect())
    }

    async fn sandbox_records(&self) -> Result<Vec<types::Sandbox>> {
        let object = self.namespace();
        let call = Call::record("list sandbox records of", &object);
        let request = api::StoreListRequest { filters: Vec::new() };
        match call.run(self.calls().sandboxes().list(request)).await {
            Ok(answer) => Ok(answer.list),
            Err(error) if error.kind() == Kind::Unimplemented => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the record; one that is gone is fine, and so is a containerd without the store.
    pub async fn delete_sandbox_record(&self, id: &str) -> Result<()> {
        let request = api::StoreDeleteRequest { sandbox_id: id.into() };
        let call = Call::record("delete sandbox record", &id);
        match call.run(self.calls().sandboxes().delete(request)).await.map(drop).or_gone() {
            Err(error) if error.kind() == Kind::Unimplemented => Ok(()),
            // 1.7 has no code for an absent record.
            Err(error) if !error.is_away() && self.has_no_sandbox_record(id).await => Ok(()),
            outcome => outcome,
        }
    }

    async fn has_no_sandbox_record(&self, id: &str) -> bool {
        let request = api::StoreGetRequest { sandbox_id: id.into() };
        let call = Call::record("look at sandbox record", &id);
        call.run(self.calls().sandboxes().get(request)).await.is_err_and(|error| error.is_not_found())
    }
}
