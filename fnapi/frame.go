package fnapi

import (
	"encoding/binary"
	"fmt"
	"io"
)

// On the local lane the messages of the Fn API travel in frames: a header of
// fixed size, then the payload. All numbers are little-endian.
//
//	4 bytes  size of the payload
//	4 bytes  bytes in the slot, where there is one
//	8 bytes  the instruction's number, in frames of data
//	2 bytes  the slot's number, or noSlot
//	1 byte   kind
//	1 byte   1 in the last frame of data of a bundle
//	4 bytes  0
//
// A frame of data carries a piece of a bundle's data stream, as Elements.Data
// does on the portable lane: the payload, or what lies in the slot.
const (
	frameHeaderBytes = 24
	noSlot           = 0xFFFF
)

// frameKind is what a frame carries.
type frameKind uint8

// The kinds of frame. The harness's _local.py has the same numbers.
const (
	// frameHello is the first frame of a connection, JSON: who comes and for
	// what. frameWelcome answers it, frameRefused with a text.
	frameHello frameKind = iota + 1
	frameWelcome
	frameRefused
	// frameRequest is an InstructionRequest, frameResponse an
	// InstructionResponse.
	frameRequest
	frameResponse
	frameData
	// frameAsk is a GetProcessBundleDescriptorRequest, frameDescriptor the
	// descriptor; without a payload there is none.
	frameAsk
	frameDescriptor
	// frameLog is a LogEntry.List.
	frameLog
	// frameInputSlot and frameOutputSlot bring a slot, whose descriptor is
	// passed with the frame; the slot's bytes are its size.
	frameInputSlot
	frameOutputSlot
	// frameFree gives slots back: the payload is their numbers, 2 bytes each.
	frameFree
)

// frame is a frame's header.
type frame struct {
	payloadBytes int
	slotBytes    int
	instruction  uint64
	slot         uint16
	kind         frameKind
	last         bool
}

// append writes the header behind b.
func (f frame) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(f.payloadBytes))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.slotBytes))
	b = binary.LittleEndian.AppendUint64(b, f.instruction)
	b = binary.LittleEndian.AppendUint16(b, f.slot)
	last := byte(0)
	if f.last {
		last = 1
	}
	return append(b, byte(f.kind), last, 0, 0, 0, 0)
}

// readFrame reads a header. A peer that ends between two frames gives io.EOF.
func readFrame(r io.Reader) (frame, error) {
	var b [frameHeaderBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return frame{}, err
	}
	f := frame{
		payloadBytes: int(binary.LittleEndian.Uint32(b[:])), slotBytes: int(binary.LittleEndian.Uint32(b[4:])),
		instruction: binary.LittleEndian.Uint64(b[8:]), slot: binary.LittleEndian.Uint16(b[16:]),
		kind: frameKind(b[18]), last: b[19] == 1,
	}
	if f.payloadBytes > messageBytesMax || f.kind < frameHello || f.kind > frameFree || b[19] > 1 || [4]byte(b[20:]) != [4]byte{} {
		return frame{}, malformed("a frame of kind %d with %d bytes", f.kind, f.payloadBytes)
	}
	return f, nil
}

// payload reads the payload of a frame whose header was read.
func (f frame) payload(r io.Reader) ([]byte, error) {
	b := make([]byte, f.payloadBytes)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read a frame of %d bytes: %w", f.payloadBytes, err)
	}
	return b, nil
}
