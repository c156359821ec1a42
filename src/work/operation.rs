//! What can be done to a pod or a container.

/// An operation, called as the CRI's call that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    RunPodSandbox,
    StopPodSandbox,
    RemovePodSandbox,
    UpdatePodSandboxResources,
    CheckpointPod,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    UpdateContainerResources,
    CheckpointContainer,
    ExecSync,
    Exec,
    ReopenContainerLog,
    PullImage,
    /// A container has ended, and that is being noted: nobody asks for it.
    Exit,
    /// After a restart of this daemon or containerd: nobody asks for it.
    Recovery,
}

impl Operation {
    /// Every one, in the order of the declaration.
    pub const ALL: [Self; 17] = [
        Self::RunPodSandbox,
        Self::StopPodSandbox,
        Self::RemovePodSandbox,
        Self::UpdatePodSandboxResources,
        Self::CheckpointPod,
        Self::CreateContainer,
        Self::StartContainer,
        Self::StopContainer,
        Self::RemoveContainer,
        Self::UpdateContainerResources,
        Self::CheckpointContainer,
        Self::ExecSync,
        Self::Exec,
        Self::ReopenContainerLog,
        Self::PullImage,
        Self::Exit,
        Self::Recovery,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::RunPodSandbox => "RunPodSandbox",
            Self::StopPodSandbox => "StopPodSandbox",
            Self::RemovePodSandbox => "RemovePodSandbox",
            Self::UpdatePodSandboxResources => "UpdatePodSandboxResources",
            Self::CheckpointPod => "CheckpointPod",
            Self::CreateContainer => "CreateContainer",
            Self::StartContainer => "StartContainer",
            Self::StopContainer => "StopContainer",
            Self::RemoveContainer => "RemoveContainer",
            Self::UpdateContainerResources => "UpdateContainerResources",
            Self::CheckpointContainer => "CheckpointContainer",
            Self::ExecSync => "ExecSync",
            Self::Exec => "Exec",
            Self::ReopenContainerLog => "ReopenContainerLog",
            Self::PullImage => "PullImage",
            Self::Exit => "Exit",
            Self::Recovery => "Recovery",
        }
    }

    /// Whether it comes all the time, as probes do: only its last failure is worth a place.
    pub(super) fn is_routine(self) -> bool {
        matches!(self, Self::ExecSync | Self::Exec | Self::ReopenContainerLog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_its_place() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, place, "{}", operation.name());
        }
    }
}
