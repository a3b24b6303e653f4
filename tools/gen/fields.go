package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// messages are the messages that the worker reads or writes. A field whose
// message is not among them is carried as opaque bytes.
var messages = []proto.Message{
	&fnpb.InstructionRequest{},
	&fnpb.InstructionResponse{},
	&fnpb.ProcessBundleRequest{},
	&fnpb.ProcessBundleResponse{},
	&fnpb.ProcessBundleDescriptor{},
	&fnpb.GetProcessBundleDescriptorRequest{},
	&fnpb.RemoteGrpcPort{},
	&fnpb.Elements{},
	&fnpb.Elements_Data{},
	&fnpb.LogEntry{},
	&fnpb.LogEntry_List{},
	&fnpb.GetProvisionInfoRequest{},
	&fnpb.GetProvisionInfoResponse{},
	&fnpb.ProvisionInfo{},
	&pipepb.ApiServiceDescriptor{},
	&pipepb.PTransform{},
	&pipepb.FunctionSpec{},
	&pipepb.Coder{},
	&pipepb.ParDoPayload{},
	&timestamppb.Timestamp{},
}

// enums are the enumerations of which the worker needs the values.
var enums = []protoreflect.EnumDescriptor{
	fnpb.LogEntry_Severity_Enum(0).Descriptor(),
}

// files are the files whose services the worker calls, and with their imports
// the descriptors that tests read.
var files = []protoreflect.FileDescriptor{
	fnpb.File_org_apache_beam_model_fn_execution_v1_beam_fn_api_proto,
	fnpb.File_org_apache_beam_model_fn_execution_v1_beam_provision_api_proto,
}

// services are the services that the worker calls.
var services = []protoreflect.Name{
	"BeamFnControl", "BeamFnData", "BeamFnLogging", "ProvisionService",
}

// kinds are the kinds of field that the worker's codec reads and writes; an
// enumeration counts as an int32.
var kinds = []string{"string", "bytes", "bool", "int32", "int64", "message", "opaque"}

func renderFields() ([]byte, error) {
	table, err := newFieldTable()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(header)
	b.WriteString(`"""The Fn API messages that the worker speaks, from Beam's own descriptors."""

from __future__ import annotations

# Message -> field number -> (name, kind, label, message). Labels: "" (absent means the
# default), "optional" (absence is told apart), "repeated", "map" (of an entry message).
MESSAGES: dict[str, dict[int, tuple[str, str, str, str]]] = {
`)
	for _, name := range table.names {
		if err := table.renderMessage(&b, name); err != nil {
			return nil, err
		}
	}
	b.WriteString("}\n")
	for _, enum := range enums {
		renderEnum(&b, enum)
	}
	if err := renderMethods(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// fieldTable knows the messages by the names that the generated table uses:
// the full name without its package.
type fieldTable struct {
	byName map[string]protoreflect.MessageDescriptor
	names  []string // sorted
}

func newFieldTable() (*fieldTable, error) {
	t := &fieldTable{byName: map[string]protoreflect.MessageDescriptor{}}
	var add func(m protoreflect.MessageDescriptor) error
	add = func(m protoreflect.MessageDescriptor) error {
		name := localName(m)
		if other, ok := t.byName[name]; ok && other.FullName() != m.FullName() {
			return fmt.Errorf("%s and %s would share a name", other.FullName(), m.FullName())
		}
		t.byName[name] = m
		for i := range m.Fields().Len() {
			if f := m.Fields().Get(i); f.IsMap() {
				if err := add(f.Message()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, message := range messages {
		if err := add(message.ProtoReflect().Descriptor()); err != nil {
			return nil, err
		}
	}
	for name := range t.byName {
		t.names = append(t.names, name)
	}
	slices.Sort(t.names)
	return t, nil
}

func (t *fieldTable) renderMessage(b *bytes.Buffer, name string) error {
	fields := fieldsByNumber(t.byName[name])
	if len(fields) == 0 {
		fmt.Fprintf(b, "    %s: {},\n", quote(name))
		return nil
	}
	fmt.Fprintf(b, "    %s: {\n", quote(name))
	for _, f := range fields {
		kind, label, message, err := t.describe(f)
		if err != nil {
			return err
		}
		parts := []string{quote(string(f.Name())), quote(kind), quote(label), quote(message)}
		line := fmt.Sprintf("        %d: (%s),", f.Number(), strings.Join(parts, ", "))
		if len(line) > lineMax {
			line = fmt.Sprintf("        %d: (\n            %s,\n        ),", f.Number(), strings.Join(parts, ",\n            "))
		}
		b.WriteString(line + "\n")
	}
	b.WriteString("    },\n")
	return nil
}

// describe gives a field's kind, label and message, as the table writes them.
func (t *fieldTable) describe(f protoreflect.FieldDescriptor) (kind, label, message string, err error) {
	kind = f.Kind().String()
	switch f.Kind() {
	case protoreflect.EnumKind:
		kind = "int32"
	case protoreflect.MessageKind:
		message = localName(f.Message())
		if known, ok := t.byName[message]; !ok || known.FullName() != f.Message().FullName() {
			kind, message = "opaque", ""
		}
	}
	if !slices.Contains(kinds, kind) {
		return "", "", "", fmt.Errorf("%s is of kind %s, which the worker's codec cannot read", f.FullName(), kind)
	}
	if f.IsList() && (kind == "bool" || kind == "int32" || kind == "int64") {
		return "", "", "", fmt.Errorf("%s is a packed field, which the worker's codec cannot read", f.FullName())
	}
	switch {
	case f.IsMap():
		label = "map"
	case f.IsList():
		label = "repeated"
	case f.HasPresence():
		label = "optional"
	}
	return kind, label, message, nil
}

func fieldsByNumber(m protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	fields := make([]protoreflect.FieldDescriptor, m.Fields().Len())
	for i := range fields {
		fields[i] = m.Fields().Get(i)
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	return fields
}

func renderEnum(b *bytes.Buffer, enum protoreflect.EnumDescriptor) {
	// LogEntry.Severity.Enum becomes SEVERITY: Beam wraps each enumeration in
	// a message of its name.
	name := strings.ToUpper(string(enum.Parent().Name()))
	fmt.Fprintf(b, "\n%s: dict[str, int] = {\n", name)
	for i := range enum.Values().Len() {
		v := enum.Values().Get(i)
		fmt.Fprintf(b, "    %s: %d,\n", quote(string(v.Name())), v.Number())
	}
	b.WriteString("}\n")
}

// renderMethods writes the gRPC paths of the services' methods.
func renderMethods(b *bytes.Buffer) error {
	b.WriteString("\n# Service.Method -> gRPC path.\nMETHODS: dict[str, str] = {\n")
	for _, name := range services {
		service := findService(name)
		if service == nil {
			return fmt.Errorf("there is no service %s", name)
		}
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i).Name()
			key := quote(fmt.Sprintf("%s.%s", name, method))
			path := quote(fmt.Sprintf("/%s/%s", service.FullName(), method))
			if line := fmt.Sprintf("    %s: %s,\n", key, path); len(line) <= lineMax+1 {
				b.WriteString(line)
				continue
			}
			fmt.Fprintf(b, "    %s: (\n        %s\n    ),\n", key, path)
		}
	}
	b.WriteString("}\n")
	return nil
}

func findService(name protoreflect.Name) protoreflect.ServiceDescriptor {
	for _, file := range files {
		if service := file.Services().ByName(name); service != nil {
			return service
		}
	}
	return nil
}

func localName(d protoreflect.Descriptor) string {
	return strings.TrimPrefix(string(d.FullName()), string(d.ParentFile().Package())+".")
}

// marshalDescriptors gives the files and all they import as a
// FileDescriptorSet, imports first.
func marshalDescriptors() ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range files {
		add(f)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(set)
}
