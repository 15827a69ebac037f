//! Python's grpcio, a client that shares no code with ours: with stubs made from `proto/`, at the
//! address that `heddle agent address` prints.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    address::awkward_paths,
    harness::{HEDDLE, TestRepo, run, skip},
};

/// What the script and the making of stubs import.
const IMPORTS: &str = "import grpc, grpc_health, grpc_reflection, grpc_status, grpc_tools";

/// A Python with grpcio, and stubs made from our contract.
pub struct Python {
    program: PathBuf,
    stubs: TempDir,
}

impl Python {
    /// The one that `.ci/run` names, or the one on the path if it has grpcio.
    pub fn find(test: &str) -> Option<Self> {
        let named = std::env::var_os("HEDDLE_TEST_PYTHON").map(PathBuf::from);
        let program = named.clone().unwrap_or_else(|| "python3".into());
        let imports = Command::new(&program)
            .args(["-c", IMPORTS])
            .stdin(Stdio::null())
            .output();
        if !imports.as_ref().is_ok_and(|ran| ran.status.success()) {
            assert!(named.is_none(), "{program:?} has no grpcio: {imports:?}");
            skip(
                test,
                "no HEDDLE_TEST_PYTHON, and python3 cannot import grpcio and its tools",
            );
            return None;
        }
        let python = Self {
            program,
            stubs: tempfile::tempdir().unwrap(),
        };
        python.make_stubs();
        Some(python)
    }

    /// Compiles every file of the contract with Google's own compiler.
    fn make_stubs(&self) {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut files = Vec::new();
        for folder in ["heddle/v1", "heddle/local/v1"] {
            let listed = proto.join(folder).read_dir().unwrap();
            files.extend(listed.map(|entry| entry.unwrap().path()));
        }
        files.retain(|path| path.extension().is_some_and(|ext| ext == "proto"));
        let mut protoc = self.command();
        protoc.args([
            "-m",
            "grpc_tools.protoc",
            "--python_out=.",
            "--grpc_python_out=.",
        ]);
        run(protoc.arg("-I").arg(&proto).args(files)).ok();
    }

    /// A Python that finds the stubs.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(self.stubs.path())
            .env("PYTHONPATH", self.stubs.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a part of `tests/foreign/client.py` against the daemon of a repository, which the
    /// asking for its address starts.
    #[track_caller]
    fn client(&self, what: &str, repo: &TestRepo) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/client.py");
        let mut client = self.command();
        client.arg(script).arg(what).arg(repo.address());
        run(client.arg(repo.root())).ok();
    }
}

#[test]
fn a_python_client_gets_all_that_the_contract_promises() {
    let Some(python) = Python::find("foreign::a_python_client_gets_all_that_the_contract_promises")
    else {
        return;
    };
    let repo = TestRepo::new();
    python.client("tour", &repo);

    let hooks = repo.heddle(["hook", "list", "--output", "json"]).json();
    assert_eq!(hooks["hooks"][0]["name"], "grüße");
    assert_eq!(hooks["hooks"][1]["name"], "later");
}

#[test]
fn the_printed_address_opens_in_python_as_it_is() {
    let Some(python) = Python::find("foreign::the_printed_address_opens_in_python_as_it_is") else {
        return;
    };
    for path in awkward_paths() {
        let repo = TestRepo::at(path);
        python.client("open", &repo);
    }
}

#[test]
fn the_python_of_the_readme_runs_as_it_stands() {
    let Some(python) = Python::find("foreign::the_python_of_the_readme_runs_as_it_stands") else {
        return;
    };
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("\n```python\n").unwrap();
    let (example, _) = rest.split_once("\n```").unwrap();
    let repo = TestRepo::new();
    let mut path = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    path.insert(0, Path::new(HEDDLE).parent().unwrap().into());
    let mut command = repo.command(&python.program);
    command
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("PYTHONPATH", python.stubs.path());
    let said = run(command.args(["-c", example])).ok();
    assert!(said.contains("hook_register"), "{said}");
}
