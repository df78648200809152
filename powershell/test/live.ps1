# Runs the module against the server that COUNTERSIGN_URL names. Every failed check ends the script with an error.
param(
    [Parameter(Mandatory = $true)] [string] $Module,
    [Parameter(Mandatory = $true)] [string] $Artifact,
    [Parameter(Mandatory = $true)] [string] $Directory
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 3.0

function Assert-That {
    param([bool] $Condition, [string] $Message)
    if (-not $Condition) {
        throw "failed: $Message"
    }
}

# Runs a command that must fail, and checks its message.
function Assert-Refusal {
    param([scriptblock] $Command, [string] $Pattern)
    $message = $null
    try {
        [void] (& $Command)
    }
    catch {
        $message = $_.Exception.Message
    }
    Assert-That -Condition ($null -ne $message) -Message "an error like $Pattern"
    Assert-That -Condition ($message -match $Pattern) -Message "'$message' is like $Pattern"
}

Import-Module -Name $Module -Force
Set-Location -Path $Directory
Copy-Item -Path $Artifact -Destination 'app.exe'

foreach ($name in 'Submit-SigningRequest', 'Get-SignedArtifact', 'Get-CertificateByMicrosoftTemplateId') {
    Assert-That -Condition ((Get-Help -Name $name).Synopsis.Length -gt 20) -Message "$name has help"
}

# The server answers the first call with 503 and Retry-After.
$target = @{ ProjectSlug = 'app'; SigningPolicySlug = 'test-signing' }
$id = Submit-SigningRequest @target -InputArtifactPath 'app.exe' -Parameters @{ version = '1.2.0' } -WaitForCompletion -WarningAction SilentlyContinue
Assert-That -Condition ($id -cmatch '^[0-9a-f-]{36}$') -Message "'$id' is an id"
Assert-That -Condition ((Get-Item -Path 'app.signed.exe').Length -gt (Get-Item -Path 'app.exe').Length) -Message 'the signed artifact is longer'

Assert-Refusal -Command { Get-SignedArtifact -SigningRequestId $id -OutputArtifactPath 'app.signed.exe' } -Pattern '-Force'
$id | Get-SignedArtifact -OutputArtifactPath 'app.signed.exe' -Force
Assert-That -Condition (-not (Test-Path -Path '*.partial')) -Message 'nothing half is left'

$second = Submit-SigningRequest -Resubmit -OriginalSigningRequestId $id -SigningPolicySlug 'release-signing' -WaitForCompletion -OutputArtifactPath 'release.exe'
Assert-That -Condition ($second -ne $id) -Message 'a resubmit is a new request'
Assert-That -Condition (Test-Path -Path 'release.exe') -Message 'the resubmitted artifact is there'

Set-Content -Path 'settings.json' -Value '{}'
$origin = @{
    RepositoryData  = @{ SourceControlManagementType = 'git'; Url = 'https://github.com/acme/app'; BranchName = 'main'; CommitId = 'bf458b27080c81eb1e316c63867a87fdb3b47211' }
    'BuildData.Url' = 'https://ci.example.com/job/app/42'
    BuildData       = @{ BuildSettingsFile = '@settings.json' }
}
$buildSystem = @{ ApiToken = '{0}:{1}' -f $env:COUNTERSIGN_TOKEN, $env:TEST_BUILD_SYSTEM_TOKEN }
[void] (Submit-SigningRequest @buildSystem -ProjectSlug 'app' -SigningPolicySlug 'release-verified' -InputArtifactPath 'app.exe' -Origin $origin -WaitForCompletion -OutputArtifactPath 'verified.exe')

Assert-Refusal -Command { Submit-SigningRequest @target -InputArtifactPath 'app.exe' -CIUserToken 'wrong' } -Pattern '401[\s\S]*-ApiToken'
Assert-Refusal -Command { Submit-SigningRequest -ProjectSlug 'app' -SigningPolicySlug 'release-verified' -InputArtifactPath 'app.exe' } -Pattern '403[\s\S]*trusted build system'
Assert-Refusal -Command { Submit-SigningRequest -ProjectSlug 'app' -SigningPolicySlug 'none' -InputArtifactPath 'app.exe' } -Pattern '400[\s\S]*SigningPolicySlug: '
Assert-Refusal -Command { Submit-SigningRequest @target -InputArtifactPath 'missing.exe' } -Pattern 'missing.exe'
Assert-Refusal -Command { Submit-SigningRequest @target -InputArtifactPath 'app.exe' -ApiUrl 'nowhere' } -Pattern '-ApiUrl'
$env:COUNTERSIGN_URL = ''
Assert-Refusal -Command { Submit-SigningRequest @target -InputArtifactPath 'app.exe' } -Pattern 'COUNTERSIGN_URL'
