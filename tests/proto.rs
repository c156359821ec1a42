//! Holds `proto/` against the CRI as Kubernetes publishes it: name by name, number by number.
//!
//! Upstream's side is what `tests/go/cri-api` prints, run with `go run`, or the file named by
//! `CRIDGE_CRI_API_PB`, if that is set. Without either the test fails: unchecked is not equal.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use cridge::proto::DESCRIPTOR_SET;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};

#[test]
fn our_declarations_are_upstreams() {
    let upstream = Declarations::of(&upstream());
    assert!(upstream.0.contains_key("runtime.v1.RuntimeService.Version"));

    let differences = upstream.differences(&Declarations::of(&ours()));
    assert!(differences.is_empty(), "proto/ differs from upstream's CRI:\n{}", differences.join("\n"));
}

/// What each kind of change in a declaration is reported as: that change and nothing else.
#[test]
fn every_kind_of_difference_is_reported() {
    type Change = fn(&mut FileDescriptorSet);
    let cases: [(Change, &str); 12] = [
        (
            |set| field(set, "Mount", "readonly").number = Some(99),
            "runtime.v1.Mount.readonly: upstream `bool = 3`, ours `bool = 99`",
        ),
        (
            |set| field(set, "Mount", "readonly").set_type(Type::Int64),
            "runtime.v1.Mount.readonly: upstream `bool = 3`, ours `int64 = 3`",
        ),
        (
            |set| field(set, "Mount", "readonly").set_label(Label::Repeated),
            "runtime.v1.Mount.readonly: upstream `bool = 3`, ours `repeated bool = 3`",
        ),
        (
            |set| field(set, "Mount", "image").type_name = Some(".runtime.v1.Image".into()),
            "runtime.v1.Mount.image: upstream `.runtime.v1.ImageSpec = 9`, ours `.runtime.v1.Image = 9`",
        ),
        (
            |set| field(set, "Mount", "readonly").json_name = Some("ro".into()),
            "runtime.v1.Mount.readonly: upstream `bool = 3`, ours `bool = 3 json_name ro`",
        ),
        (
            |set| field(set, "LinuxSandboxSecurityContext", "seccomp_profile_path").options = None,
            "runtime.v1.LinuxSandboxSecurityContext.seccomp_profile_path: \
             upstream `string = 7 deprecated`, ours `string = 7`",
        ),
        (
            |set| {
                let mount = message(set, "Mount");
                mount
                    .oneof_decl
                    .push(prost_types::OneofDescriptorProto { name: Some("source".into()), options: None });
                mount.field[0].oneof_index = Some(0);
            },
            "runtime.v1.Mount.container_path: upstream `string = 1`, ours `string = 1 oneof source`",
        ),
        (
            |set| message(set, "Mount").reserved_name.push("old".into()),
            "runtime.v1.Mount: upstream `message`, ours `message reserved \"old\"`",
        ),
        (
            |set| {
                let enums = set.file.iter_mut().flat_map(|file| &mut file.enum_type);
                let mut values = enums.flat_map(|declared| &mut declared.value);
                let value = values.find(|value| value.name() == "SIGNAL_SIGHUP");
                value.expect("declared").number = Some(90);
            },
            "runtime.v1.Signal.SIGNAL_SIGHUP: upstream `enum value = 8`, ours `enum value = 90`",
        ),
        (
            |set| service(set, "ImageService").method[1].server_streaming = Some(false),
            "runtime.v1.ImageService.StreamImages: \
             upstream `.runtime.v1.StreamImagesRequest -> stream .runtime.v1.StreamImagesResponse`, \
             ours `.runtime.v1.StreamImagesRequest -> .runtime.v1.StreamImagesResponse`",
        ),
        (
            |set| drop(service(set, "ImageService").method.remove(5)),
            "runtime.v1.ImageService.ImageFsInfo: missing, upstream \
             `.runtime.v1.ImageFsInfoRequest -> .runtime.v1.ImageFsInfoResponse`",
        ),
        (
            |set| {
                message(set, "Mount")
                    .nested_type
                    .push(DescriptorProto { name: Some("Extra".into()), ..Default::default() })
            },
            "runtime.v1.Mount.Extra: not upstream's, `message`",
        ),
    ];
    for (change, expected) in cases {
        let mut changed = ours();
        change(&mut changed);
        let differences = Declarations::of(&ours()).differences(&Declarations::of(&changed));
        assert_eq!(differences, [expected]);
    }
}

fn ours() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTOR_SET).expect("protoc wrote the descriptor set")
}

fn upstream() -> FileDescriptorSet {
    let encoded = match std::env::var_os("CRIDGE_CRI_API_PB") {
        Some(file) => std::fs::read(&file)
            .unwrap_or_else(|e| panic!("read {} (CRIDGE_CRI_API_PB): {e}", file.display())),
        None => printed_by_go(),
    };
    FileDescriptorSet::decode(&*encoded).expect("upstream's side is a FileDescriptorSet")
}

fn printed_by_go() -> Vec<u8> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go/cri-api");
    let output = Command::new("go")
        .args(["run", "-buildvcs=false", "."])
        .current_dir(&module)
        .output()
        .unwrap_or_else(|e| {
            panic!("run go: {e}; install Go, or set CRIDGE_CRI_API_PB to what the program prints")
        });
    assert!(
        output.status.success(),
        "go run in {}: {}\n{}",
        module.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Every declared name in full, with all that the wire or a caller can notice of it as a line.
struct Declarations(BTreeMap<String, String>);

impl Declarations {
    fn of(set: &FileDescriptorSet) -> Self {
        let mut declarations = Self(BTreeMap::new());
        for file in &set.file {
            declarations.file(file);
        }
        declarations
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        // The syntax decides on presence and packing, so it is part of every declaration.
        assert_eq!(file.syntax(), "proto3", "{}", file.name());
        assert!(file.extension.is_empty(), "{}", file.name());
        for message in &file.message_type {
            self.message(file.package(), message);
        }
        for declared in &file.enum_type {
            self.enumeration(file.package(), declared);
        }
        for service in &file.service {
            self.service(file.package(), service);
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        let options = message.options.as_ref();
        let mut line = Line::new("message");
        line.mark(options.is_some_and(|o| o.map_entry()), "map entry");
        line.mark(options.is_some_and(|o| o.deprecated()), "deprecated");
        for range in &message.reserved_range {
            line.push(&format!("reserved {}..{}", range.start(), range.end()));
        }
        for reserved in &message.reserved_name {
            line.push(&format!("reserved {reserved:?}"));
        }
        for field in &message.field {
            let oneof = field.oneof_index.map(|index| {
                let index = usize::try_from(index).expect("an index is not negative");
                message.oneof_decl[index].name()
            });
            self.add(&name, field.name(), field_line(field, oneof));
        }
        for nested in &message.nested_type {
            self.message(&name, nested);
        }
        for nested in &message.enum_type {
            self.enumeration(&name, nested);
        }
        self.add(scope, message.name(), line);
    }

    fn enumeration(&mut self, scope: &str, declared: &EnumDescriptorProto) {
        let name = format!("{scope}.{}", declared.name());
        let options = declared.options.as_ref();
        let mut line = Line::new("enum");
        line.mark(options.is_some_and(|o| o.allow_alias()), "allow_alias");
        line.mark(options.is_some_and(|o| o.deprecated()), "deprecated");
        for range in &declared.reserved_range {
            line.push(&format!("reserved {}..={}", range.start(), range.end()));
        }
        for reserved in &declared.reserved_name {
            line.push(&format!("reserved {reserved:?}"));
        }
        for value in &declared.value {
            let mut line = Line::new(&format!("enum value = {}", value.number()));
            let options = value.options.as_ref();
            line.mark(options.is_some_and(|o| o.deprecated()), "deprecated");
            self.add(&name, value.name(), line);
        }
        self.add(scope, declared.name(), line);
    }

    fn service(&mut self, scope: &str, service: &ServiceDescriptorProto) {
        let name = format!("{scope}.{}", service.name());
        let mut line = Line::new("service");
        let options = service.options.as_ref();
        line.mark(options.is_some_and(|o| o.deprecated()), "deprecated");
        for method in &service.method {
            self.add(&name, method.name(), method_line(method));
        }
        self.add(scope, service.name(), line);
    }

    fn add(&mut self, scope: &str, name: &str, line: Line) {
        let name = format!("{scope}.{name}");
        let twice = self.0.insert(name.clone(), line.0);
        assert!(twice.is_none(), "{name} is declared twice");
    }

    /// A line for each name on which `ours` departs from `self`, upstream's; sorted by name.
    fn differences(&self, ours: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, upstream) in &self.0 {
            match ours.0.get(name) {
                Some(our) if our == upstream => {}
                Some(our) => differences.push(format!("{name}: upstream `{upstream}`, ours `{our}`")),
                None => differences.push(format!("{name}: missing, upstream `{upstream}`")),
            }
        }
        for (name, our) in &ours.0 {
            if !self.0.contains_key(name) {
                differences.push(format!("{name}: not upstream's, `{our}`"));
            }
        }
        differences.sort();
        differences
    }
}

fn field_line(field: &FieldDescriptorProto, oneof: Option<&str>) -> Line {
    let kind = match field.type_name.as_deref() {
        Some(name) => name.to_owned(),
        None => field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let label = match field.label() {
        Label::Optional => "",
        Label::Required => "required ",
        Label::Repeated => "repeated ",
    };
    let mut line = Line::new(&format!("{label}{kind} = {}", field.number()));
    if field.json_name() != camel_case(field.name()) {
        line.push(&format!("json_name {}", field.json_name()));
    }
    if let Some(oneof) = oneof {
        line.push(&format!("oneof {oneof}"));
    }
    line.mark(field.proto3_optional(), "optional");
    if let Some(options) = &field.options {
        line.mark(options.deprecated(), "deprecated");
        if let Some(packed) = options.packed {
            line.push(&format!("packed {packed}"));
        }
    }
    line
}

fn method_line(method: &MethodDescriptorProto) -> Line {
    let stream = |streaming| if streaming { "stream " } else { "" };
    let mut line = Line::new(&format!(
        "{}{} -> {}{}",
        stream(method.client_streaming()),
        method.input_type(),
        stream(method.server_streaming()),
        method.output_type()
    ));
    let options = method.options.as_ref();
    line.mark(options.is_some_and(|o| o.deprecated()), "deprecated");
    line
}

/// The name that protobuf's JSON mapping gives a field unless its declaration chooses another.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        camel.push_str(&first.to_uppercase());
        camel.push_str(rest);
    }
    camel
}

/// A declaration in words, joined by spaces.
struct Line(String);

impl Line {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn push(&mut self, word: &str) {
        self.0.push(' ');
        self.0.push_str(word);
    }

    fn mark(&mut self, holds: bool, word: &str) {
        if holds {
            self.push(word);
        }
    }
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
    let mut messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    messages.find(|message| message.name() == name).expect("declared")
}

fn field<'a>(set: &'a mut FileDescriptorSet, of: &str, name: &str) -> &'a mut FieldDescriptorProto {
    let mut fields = message(set, of).field.iter_mut();
    fields.find(|field| field.name() == name).expect("declared")
}

fn service<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut ServiceDescriptorProto {
    let mut services = set.file.iter_mut().flat_map(|file| &mut file.service);
    services.find(|service| service.name() == name).expect("declared")
}
