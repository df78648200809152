package ziparchive

// Extra fields (4.5) that are read or written here.
const (
	zip64Extra     = 0x0001 // 4.5.3
	alignmentExtra = 0xd935 // zipalign's padding: alignment in 16 bits, then zeros
)

// findExtra returns the data of the first extra field with this id, and how
// many there are. What is no well-formed field, such as the zeros that older
// aligners append, is passed over.
func findExtra(extra []byte, id uint16) (data []byte, count int) {
	eachExtra(extra, func(found uint16, start, end int) {
		if found == id {
			if count == 0 {
				data = extra[start+4 : end : end]
			}
			count++
		}
	})
	return data, count
}

// eachExtra calls f with the id of each field and where it starts, with its
// header of four bytes, and ends.
func eachExtra(extra []byte, f func(id uint16, start, end int)) {
	for i := 0; i+4 <= len(extra); {
		end := i + 4 + int(le.Uint16(extra[i+2:]))
		if end > len(extra) {
			return
		}
		f(le.Uint16(extra[i:]), i, end)
		i = end
	}
}

// setExtra returns extra with the field id holding data, at the place where it
// was or else in front; a nil data leaves it out.
func setExtra(extra []byte, id uint16, data []byte) []byte {
	var field []byte
	if data != nil {
		field = le.AppendUint16(nil, id)
		field = le.AppendUint16(field, uint16(len(data)))
		field = append(field, data...)
	}
	out := make([]byte, 0, len(extra)+len(field))
	rest := 0
	eachExtra(extra, func(found uint16, start, end int) {
		if found == id {
			out = append(out, extra[rest:start]...)
			out = append(out, field...)
			field, rest = nil, end
		}
	})
	out = append(out, extra[rest:]...)
	return append(field, out...)
}

// wideFields are the values of a central directory header that overflow into
// the ZIP64 extra field, in its order.
type wideFields struct {
	size, compressed, offset int64
}

// widePlaces are where their 32-bit forms lie in the central directory header.
var widePlaces = [3]int{24, 20, 42}

const diskPlace = 34

// readWide resolves the ZIP64 extra field of a central directory header whose
// extra field is given. field names what is missing if ok is false.
func readWide(record, extra []byte) (w wideFields, disk uint32, field string, ok bool) {
	data, count := findExtra(extra, zip64Extra)
	if count > 1 {
		return w, 0, "second ZIP64 extra field", false
	}
	values := [3]*int64{&w.size, &w.compressed, &w.offset}
	for i, name := range []string{"uncompressed size", "compressed size", "local header offset"} {
		narrow := le.Uint32(record[widePlaces[i]:])
		*values[i] = int64(narrow)
		if narrow != max32 {
			continue
		}
		if len(data) < 8 {
			return w, 0, name, false
		}
		*values[i] = int64(le.Uint64(data))
		if *values[i] < 0 {
			return w, 0, name, false
		}
		data = data[8:]
	}
	disk = uint32(le.Uint16(record[diskPlace:]))
	if disk == max16 {
		if len(data) < 4 {
			return w, 0, "disk number start", false
		}
		disk = le.Uint32(data)
	}
	return w, disk, "", true
}

// appendCentral appends the central directory header record with other wide
// fields. Those that were in the ZIP64 extra field stay there; if no others have
// to go there, its layout stays as it is, unless rebuild says that what else the
// field holds is out of date. ok is false if the extra field got too long.
func appendCentral(dst, record []byte, w wideFields, rebuild bool) (_ []byte, ok bool) {
	nameEnd := centralSize + int(le.Uint16(record[28:]))
	extraEnd := nameEnd + int(le.Uint16(record[30:]))
	extra := record[nameEnd:extraEnd]
	old, _ := findExtra(extra, zip64Extra)

	head := [centralSize]byte(record)
	var wide []byte
	same := !rebuild
	for i, value := range []int64{w.size, w.compressed, w.offset} {
		wasWide := le.Uint32(head[widePlaces[i]:]) == max32
		if !wasWide && value < max32 {
			le.PutUint32(head[widePlaces[i]:], uint32(value))
			continue
		}
		same = same && wasWide
		le.PutUint32(head[widePlaces[i]:], max32)
		wide = le.AppendUint64(wide, uint64(value))
	}
	if same && wide != nil { // what follows the values in the field, the disk number among it
		wide = append(wide, old[len(wide):]...)
	} else if wide != nil {
		if le.Uint16(head[diskPlace:]) == max16 {
			wide = le.AppendUint32(wide, 0)
		}
		le.PutUint16(head[6:], max(le.Uint16(head[6:]), versionZIP64))
	}
	if wide != nil || rebuild {
		extra = setExtra(extra, zip64Extra, wide)
		if len(extra) > max16 {
			return dst, false
		}
		le.PutUint16(head[30:], uint16(len(extra)))
	}
	dst = append(dst, head[:]...)
	dst = append(dst, record[centralSize:nameEnd]...)
	dst = append(dst, extra...)
	return append(dst, record[extraEnd:]...), true
}
