package powershell_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// builtIn are the commands of PowerShell that the module uses, with those of their parameters that Windows PowerShell 5.1
// has too.
var builtIn = map[string][]string{
	"Add-Type":            {"-AssemblyName"},
	"ConvertFrom-Json":    {"-InputObject"},
	"Export-ModuleMember": {"-Function"},
	"Join-Path":           {"-Path", "-ChildPath"},
	"Select-Object":       {"-First"},
	"Set-StrictMode":      {"-Version"},
	"Sort-Object":         {"-Property", "-Descending"},
	"Start-Sleep":         {"-Seconds", "-Milliseconds"},
	"Where-Object":        {"-FilterScript"},
	"Write-Progress":      {"-Activity", "-Status", "-PercentComplete", "-SecondsRemaining", "-Completed"},
	"Write-Verbose":       {"-Message"},
	"Write-Warning":       {"-Message"},
}

// framework is what the module uses of .NET and .NET Framework 4.7.2 alike: members of types and methods of objects,
// calls with the number of their arguments.
var framework = strings.Fields(`
	.Add(1) .Add(2) .Add(3) .Cancel(0) .Close(0) .ContainsKey(1) .CopyToAsync(3) .Dispose(0) .EndsWith(2)
	.GetBaseException(0) .GetString(1) .GetUnresolvedProviderPathFromPSPath(1) .Match(1) .Open(1) .ReadAsStreamAsync(0)
	.ReadAsync(4) .SendAsync(3) .StartsWith(2) .Substring(1) .Substring(2) .ToArray(0) .ToString(0) .ToString(1) .Trim(0)
	.TrimEnd(0) .TrimEnd(1) .TryAddWithoutValidation(2) .Write(3)
	System.ArgumentException::new(1) System.Collections.Generic.List[System.IO.FileStream]::new(0) System.DateTime::Now
	System.DateTimeOffset::UtcNow System.Diagnostics.Stopwatch::StartNew(0) System.Environment::GetEnvironmentVariable(1)
	System.Environment::NewLine System.Guid::NewGuid(0) System.IO.Directory::Exists(1)
	System.IO.DirectoryNotFoundException::new(1) System.IO.File::Delete(1) System.IO.File::Exists(1)
	System.IO.File::Move(2) System.IO.FileAccess::Read System.IO.FileAccess::Write System.IO.FileMode::Create
	System.IO.FileMode::Open System.IO.FileNotFoundException::new(2) System.IO.FileOptions::SequentialScan
	System.IO.FileShare::Read System.IO.FileStream::new(3) System.IO.FileStream::new(6) System.IO.IOException::new(1)
	System.IO.MemoryStream::new(0) System.IO.Path::ChangeExtension(2) System.IO.Path::GetDirectoryName(1)
	System.IO.Path::GetExtension(1) System.IO.Path::GetFileName(1) System.InvalidOperationException::new(1)
	System.Math::Ceiling(1) System.Math::Max(2) System.Math::Min(2) System.Net.Http.ClientCertificateOption::Manual
	System.Net.Http.Headers.AuthenticationHeaderValue::new(2) System.Net.Http.Headers.MediaTypeHeaderValue::new(1)
	System.Net.Http.HttpClient::new(2) System.Net.Http.HttpClientHandler::new(0)
	System.Net.Http.HttpCompletionOption::ResponseHeadersRead System.Net.Http.HttpMethod::new(1)
	System.Net.Http.HttpRequestException::new(1) System.Net.Http.HttpRequestException::new(2)
	System.Net.Http.HttpRequestMessage::new(2) System.Net.Http.MultipartFormDataContent::new(0)
	System.Net.Http.StreamContent::new(2) System.Net.Http.StringContent::new(1) System.Net.SecurityProtocolType::Tls12
	System.Net.ServicePointManager::SecurityProtocol System.Security.Cryptography.X509Certificates.OpenFlags::ReadOnly
	System.Security.Cryptography.X509Certificates.StoreName::My
	System.Security.Cryptography.X509Certificates.X509Store::new(2) System.StringComparison::Ordinal
	System.StringComparison::OrdinalIgnoreCase System.Text.Encoding::UTF8 System.Threading.CancellationTokenSource::new(0)
	System.Threading.Tasks.Task::WaitAny(2) System.Threading.Timeout::InfiniteTimeSpan System.TimeoutException::new(1)
	System.Uri::EscapeDataString(1) System.Uri::TryCreate(3) System.UriKind::Absolute byte[]::new(1) int::MaxValue
	string::IsNullOrWhiteSpace(1)`)

// approvedVerbs are those of Get-Verb in Windows PowerShell 5.1, without those that change a system's state: PowerShell
// wants -WhatIf of these.
var approvedVerbs = strings.Fields(`
	Add Approve Assert Backup Block Checkpoint Close Compare Complete Compress Confirm Connect Convert ConvertFrom ConvertTo
	Copy Debug Deny Disable Disconnect Dismount Edit Enable Enter Exit Expand Export Find Format Get Grant Group Hide Import
	Initialize Install Invoke Join Limit Lock Measure Merge Mount Move Open Optimize Out Ping Pop Protect Publish Push Read
	Receive Redo Register Rename Repair Request Resize Resolve Restore Resume Revoke Save Search Select Send Show Skip Split
	Step Submit Suspend Switch Sync Test Trace Unblock Undo Uninstall Unlock Unprotect Unpublish Unregister Use Wait Watch
	Write`)

// foreign returns what a file uses that Windows PowerShell 5.1 may not have, and functions whose names PowerShell's own
// analyzer would refuse.
func foreign(f facts) []string {
	var found []string
	for _, c := range f.Commands {
		parameters, ok := builtIn[c.Text]
		if !ok {
			continue
		}
		for _, p := range c.Own {
			if !slices.Contains(parameters, p) {
				found = append(found, c.Text+" "+p)
			}
		}
	}
	for _, m := range f.Members {
		if !slices.Contains(framework, m.Text) {
			found = append(found, m.Text)
		}
	}
	for _, fn := range f.Functions {
		verb, _, _ := strings.Cut(fn.Text, "-")
		if !slices.Contains(approvedVerbs, verb) {
			found = append(found, fn.Text)
		}
	}
	return found
}

func TestWindowsPowerShell(t *testing.T) {
	t.Parallel()
	for file, f := range sources(t) {
		for _, name := range foreign(f) {
			t.Errorf("%s: does Windows PowerShell 5.1 with .NET Framework 4.7.2 have %s?", file, name)
		}
	}
	all, err := parseModule()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Join-Path -AdditionalChildPath", "ConvertFrom-Json -AsHashtable",
		"System.Net.Http.HttpClientHandler::DangerousAcceptAnyServerCertificateValidator", "System.IO.File::Move(3)",
		"string::Format(2)", ".Frobnicate(0)", "New-Thing", "Frobnicate-Thing",
	}
	got := foreign(all[forbidden])
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
