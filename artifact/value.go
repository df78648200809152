package artifact

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// unbounded is a number of matches that no artifact reaches.
const unbounded = math.MaxInt

// check complains about a value whose parameters are filled in.
func (p *parser) check(spec *attributeSpec, at position, parts []patternPart) {
	checkValue(&p.errs, spec, at, parts)
}

func checkValue(errs *complaints, spec *attributeSpec, at position, parts []patternPart) {
	value := segmentSource(parts)
	if spec.values != nil && !slices.Contains(spec.values, value) {
		hint := "one of: " + strings.Join(spec.values, ", ")
		errs.add(at, hint, "%s cannot be %q", spec.name, value)
		return
	}
	switch spec.kind {
	case kindText:
		if spec.required && value == "" {
			errs.add(at, "", "%s is empty", spec.name)
		}
	case kindPath:
		if value == "" {
			errs.add(at, "", "%s is empty", spec.name)
		} else if _, err := compilePath(parts); err != nil {
			errs.add(at, "", "%s: %v", spec.name, err)
		}
	case kindPattern, kindFileName:
		if _, err := compileWildcard(parts, spec.kind == kindFileName); err != nil {
			errs.add(at, "", "%s: %v", spec.name, err)
		}
	case kindOutput:
		if value == "" || value == "." || value == ".." || strings.ContainsAny(value, `/\:`) {
			errs.add(at, "the file is made beside the signed one; write its name only", "%s cannot be %q", spec.name, value)
		}
	case kindMinimum, kindNumber:
		if n, err := strconv.Atoi(value); err != nil || n < 0 || n > math.MaxInt32 {
			errs.add(at, "a number from 0", "%s cannot be %q", spec.name, value)
		}
	case kindMaximum:
		if n, err := strconv.Atoi(value); value != "unbounded" && (err != nil || n < 0 || n > math.MaxInt32) {
			errs.add(at, `a number from 0, or "unbounded"`, "%s cannot be %q", spec.name, value)
		}
	case kindBoolean:
		if !slices.Contains([]string{"true", "false", "1", "0"}, value) {
			errs.add(at, "true or false", "%s cannot be %q", spec.name, value)
		}
	case kindURL:
		if u, err := url.Parse(value); value != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			errs.add(at, "such as https://example.com/product", "%s is no absolute http or https URL: %q", spec.name, value)
		}
	}
}

// bounds returns how many matches are asked for.
func (i *include) bounds(parameters map[string]string) (minimum, maximum int) {
	minimum, maximum = 1, 1
	if i.minimum.spec != nil {
		minimum, _ = strconv.Atoi(i.minimum.value.expand(parameters, ""))
	}
	if i.maximum.spec != nil {
		text := i.maximum.value.expand(parameters, "")
		if text == "unbounded" {
			maximum = unbounded
		} else {
			maximum, _ = strconv.Atoi(text)
		}
	}
	return minimum, maximum
}
