package file

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// shapeDepthMax and shapeMembersMax bound the types that are made of JSON
	// values; what goes beyond is text.
	shapeDepthMax   = 16
	shapeMembersMax = 1_000
)

// shape is what the JSON values of a place have in common.
type shape struct {
	kind    kind // of scalars; kindString if the values have nothing in common
	list    *shape
	members *shapeMembers
}

// shapeMembers are an object's members, in the order of their first sight.
type shapeMembers struct {
	names  []string
	shapes []*shape
	index  map[string]int
}

func newShapeMembers() *shapeMembers { return &shapeMembers{index: map[string]int{}} }

func (m *shapeMembers) member(name string) *shape {
	at, ok := m.index[name]
	if !ok {
		at = len(m.names)
		m.index[name] = at
		m.names, m.shapes = append(m.names, name), append(m.shapes, &shape{})
	}
	return m.shapes[at]
}

// mix makes values without a common type text.
func (s *shape) mix() { *s = shape{kind: kindString} }

// add takes in the next value of a decoder.
func (s *shape) add(d *jsontext.Decoder, scratch []byte) error {
	if s.kind == kindString {
		return d.SkipValue()
	}
	switch next := d.PeekKind(); {
	case next == '{' && s.kind == kindNull && s.list == nil && d.StackDepth() < shapeDepthMax:
		return s.addObject(d, scratch)
	case next == '[' && s.kind == kindNull && s.members == nil && d.StackDepth() < shapeDepthMax:
		if s.list == nil {
			s.list = &shape{}
		}
		return s.addList(d, scratch)
	case next == '{' || next == '[':
		s.mix()
		return d.SkipValue()
	}
	value, err := d.ReadValue()
	if err != nil || value.Kind() == 'n' {
		return err
	}
	if s.list != nil || s.members != nil {
		s.mix()
		return nil
	}
	k, err := jsonKind(value, scratch)
	s.kind = s.kind.widen(k)
	return err
}

func (s *shape) addObject(d *jsontext.Decoder, scratch []byte) error {
	if s.members == nil {
		s.members = newShapeMembers()
	}
	if err := s.members.add(d, scratch); err != nil {
		return err
	}
	if len(s.members.names) > shapeMembersMax {
		s.mix()
	}
	return nil
}

// add takes in the members of an object.
func (m *shapeMembers) add(d *jsontext.Decoder, scratch []byte) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := m.member(name.String()).add(d, scratch); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func (s *shape) addList(d *jsontext.Decoder, scratch []byte) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if err := s.list.add(d, scratch); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// jsonKind is the kind of a scalar. Strings are times or text, never numbers;
// but for NaN and the infinities, for which JSON has nothing else.
func jsonKind(value jsontext.Value, scratch []byte) (kind, error) {
	switch value.Kind() {
	case 't', 'f':
		return kindBoolean, nil
	case '0':
		return numberKind(value), nil
	}
	text, err := unquote(value, scratch)
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return kindDouble, err
	}
	return timeKind(text), err
}

// arrow is the type of a place. Objects that have no member in the sample are
// text: a type without members could hold none.
func (s *shape) arrow() arrow.DataType {
	switch {
	case s.list != nil:
		return arrow.ListOf(s.list.arrow())
	case s.members != nil && len(s.members.names) > 0:
		return arrow.StructOf(s.members.fields()...)
	}
	return s.kind.arrow()
}

func (m *shapeMembers) fields() []arrow.Field {
	fields := make([]arrow.Field, len(m.names))
	for i, name := range m.names {
		fields[i] = arrow.Field{Name: name, Type: m.shapes[i].arrow(), Nullable: true}
	}
	return fields
}
