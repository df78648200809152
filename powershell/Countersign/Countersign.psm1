#Requires -Version 5.1
# The commands of the module. Scripts that call other servers of the same REST dialect keep their parameters.

Set-StrictMode -Version 3.0
Add-Type -AssemblyName 'System.Net.Http'

. (Join-Path -Path $PSScriptRoot -ChildPath 'Connection.ps1')
. (Join-Path -Path $PSScriptRoot -ChildPath 'Request.ps1')

function Submit-SigningRequest {
    <#
    .SYNOPSIS
    Submits a signing request, or resubmits one under another signing policy.

    .DESCRIPTION
    Sends an artifact to the server, or tells the server where to retrieve it, or has the server take the artifact of an
    earlier signing request (-Resubmit). Returns the id of the new signing request.

    With -WaitForCompletion the command waits until the request is completed and downloads the signed artifact. Without it,
    Get-SignedArtifact does that later. A request that ends in another way than completed is an error.

    What the server cannot answer for the moment (429, 5xx, no connection) is tried again, every 30 seconds unless the server
    says when. Name the signing policy and the artifact configuration either both by slug or both by id.

    The server's address, the organization and the API token come from the parameters or, without them, from the environment
    variables COUNTERSIGN_URL, COUNTERSIGN_ORGANIZATION and COUNTERSIGN_TOKEN.

    .PARAMETER InputArtifactPath
    The file to sign. It is sent while it is read, whatever its size.

    .PARAMETER ArtifactRetrievalLink
    The address from which the server retrieves the artifact.

    .PARAMETER ArtifactRetrievalLinkFileName
    The file name of the artifact behind the link.

    .PARAMETER ArtifactRetrievalLinkSha256Hash
    The SHA-256 hash of the artifact behind the link, in hexadecimal. The server refuses another file.

    .PARAMETER ArtifactRetrievalLinkHttpHeaders
    HTTP headers that the server sends when it retrieves the artifact, such as @{ Authorization = 'Bearer ...' }.

    .PARAMETER Resubmit
    Submit an existing signing request again. Artifact, artifact configuration, parameters and origin are those of the original.

    .PARAMETER OriginalSigningRequestId
    The id of the signing request to submit again.

    .PARAMETER ProjectSlug
    The slug of the project.

    .PARAMETER SigningPolicySlug
    The slug of the signing policy; with -Resubmit one of the original's project.

    .PARAMETER ArtifactConfigurationSlug
    The slug of the artifact configuration. The project's default when absent.

    .PARAMETER SigningPolicyId
    The id of the signing policy, instead of slugs.

    .PARAMETER ArtifactConfigurationId
    The id of the artifact configuration, together with -SigningPolicyId. The project's default when absent.

    .PARAMETER Origin
    Where the artifact comes from, for trusted build systems: RepositoryData (SourceControlManagementType, Url, BranchName,
    CommitId) and BuildData (Url, BuildSettingsFile), as nested hashtables or with dotted keys. BuildSettingsFile takes a file
    as '@path'.

    .PARAMETER OrganizationId
    The id of the organization. COUNTERSIGN_ORGANIZATION when absent.

    .PARAMETER ApiToken
    The API token of a CI user or an interactive user; a trusted build system's token follows it after a colon.
    COUNTERSIGN_TOKEN, SIGNPATH_API_TOKEN or SIGNPATH_CI_USER_TOKEN when absent.

    .PARAMETER ClientCertificate
    A client certificate with its private key, for a proxy that asks for one. See Get-CertificateByMicrosoftTemplateId.

    .PARAMETER ApiUrl
    The address of the REST API, such as https://sign.example.com/Api. COUNTERSIGN_URL when absent.

    .PARAMETER Description
    What the approvers and later readers should know about the request.

    .PARAMETER Parameters
    Values for the parameters that the artifact configuration defines.

    .PARAMETER WaitForCompletion
    Wait until the request is completed and download the signed artifact.

    .PARAMETER OutputArtifactPath
    Where the signed artifact is written. Without it the name of the input artifact with .signed before its extension:
    app.exe becomes app.signed.exe.

    .PARAMETER Force
    Overwrite an existing file at OutputArtifactPath.

    .PARAMETER WaitForCompletionTimeoutInSeconds
    How long to wait for the end of the request, not counting upload and download. 600 when absent.

    .PARAMETER ServiceUnavailableTimeoutInSeconds
    How long a single call is tried again while the server cannot answer it. 600 when absent.

    .PARAMETER UploadAndDownloadRequestTimeoutInSeconds
    How long one upload or one download may take. 300 when absent.

    .PARAMETER CancellationTimeoutInSeconds
    After how many seconds the server cancels a request that has not ended; 0 is never. When absent, the time of
    WaitForCompletionTimeoutInSeconds with -WaitForCompletion, else never.

    .INPUTS
    None.

    .OUTPUTS
    System.String. The id of the signing request.

    .EXAMPLE
    Submit-SigningRequest -ProjectSlug 'app' -SigningPolicySlug 'test-signing' -InputArtifactPath 'app.exe' -WaitForCompletion

    Signs app.exe and writes app.signed.exe. Server, organization and token come from the environment.

    .EXAMPLE
    $id = Submit-SigningRequest -ApiUrl 'https://sign.example.com/Api' -OrganizationId $organization -ApiToken $token -ProjectSlug 'app' -SigningPolicySlug 'test-signing' -ArtifactConfigurationSlug 'installer' -InputArtifactPath 'setup.msi' -Parameters @{ version = '1.2.0' }

    Submits setup.msi and does not wait: $id is for Get-SignedArtifact.

    .EXAMPLE
    Submit-SigningRequest -Resubmit -OriginalSigningRequestId $id -SigningPolicySlug 'release-signing' -WaitForCompletion -OutputArtifactPath 'release/setup.msi' -WaitForCompletionTimeoutInSeconds 86400

    Has the tested artifact signed for release and waits up to a day for the approval.

    .EXAMPLE
    $link = @{
        ArtifactRetrievalLink            = 'https://files.example.com/setup.msi'
        ArtifactRetrievalLinkFileName    = 'setup.msi'
        ArtifactRetrievalLinkSha256Hash  = (Get-FileHash -Path 'setup.msi' -Algorithm SHA256).Hash
        ArtifactRetrievalLinkHttpHeaders = @{ Authorization = "Bearer $filesToken" }
    }
    Submit-SigningRequest @link -ProjectSlug 'app' -SigningPolicySlug 'test-signing'

    Has the server retrieve the artifact itself.

    .EXAMPLE
    Submit-SigningRequest -ApiToken "${token}:${buildSystemToken}" -ProjectSlug 'app' -SigningPolicySlug 'release-verified' -InputArtifactPath 'app.exe' -Origin @{ RepositoryData = @{ SourceControlManagementType = 'git'; Url = 'https://github.com/acme/app'; BranchName = 'main'; CommitId = $commit }; BuildData = @{ Url = $buildUrl; BuildSettingsFile = '@build/settings.json' } }

    Submits as a trusted build system that vouches for the artifact's origin.

    .LINK
    Get-SignedArtifact

    .LINK
    about_Countersign
    #>
    [CmdletBinding(DefaultParameterSetName = 'InputArtifactBySlug', PositionalBinding = $false)]
    [OutputType([string])]
    param(
        [Parameter(Mandatory = $true, ParameterSetName = 'InputArtifactBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'InputArtifactById')]
        [ValidateNotNullOrEmpty()]
        [string] $InputArtifactPath,

        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkById')]
        [ValidateNotNullOrEmpty()]
        [string] $ArtifactRetrievalLink,

        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkById')]
        [ValidateNotNullOrEmpty()]
        [string] $ArtifactRetrievalLinkFileName,

        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkById')]
        [ValidatePattern('^[0-9A-Fa-f]{64}$')]
        [string] $ArtifactRetrievalLinkSha256Hash,

        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkById')]
        [hashtable] $ArtifactRetrievalLinkHttpHeaders,

        [Parameter(Mandatory = $true, ParameterSetName = 'ResubmitBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ResubmitById')]
        [switch] $Resubmit,

        [Parameter(Mandatory = $true, ParameterSetName = 'ResubmitBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ResubmitById')]
        [ValidateNotNullOrEmpty()]
        [string] $OriginalSigningRequestId,

        [Parameter(Mandatory = $true, ParameterSetName = 'InputArtifactBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [ValidateNotNullOrEmpty()]
        [string] $ProjectSlug,

        [Parameter(Mandatory = $true, ParameterSetName = 'InputArtifactBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ResubmitBySlug')]
        [ValidateNotNullOrEmpty()]
        [string] $SigningPolicySlug,

        [Parameter(ParameterSetName = 'InputArtifactBySlug')]
        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [string] $ArtifactConfigurationSlug,

        [Parameter(Mandatory = $true, ParameterSetName = 'InputArtifactById')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ArtifactRetrievalLinkById')]
        [Parameter(Mandatory = $true, ParameterSetName = 'ResubmitById')]
        [ValidateNotNullOrEmpty()]
        [string] $SigningPolicyId,

        [Parameter(ParameterSetName = 'InputArtifactById')]
        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkById')]
        [string] $ArtifactConfigurationId,

        [Parameter(ParameterSetName = 'InputArtifactBySlug')]
        [Parameter(ParameterSetName = 'InputArtifactById')]
        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkBySlug')]
        [Parameter(ParameterSetName = 'ArtifactRetrievalLinkById')]
        [hashtable] $Origin,

        [Parameter()]
        [string] $OrganizationId,

        [Parameter()]
        [Alias('CIUserToken')]
        [string] $ApiToken,

        [Parameter()]
        [System.Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate,

        [Parameter()]
        [string] $ApiUrl,

        [Parameter()]
        [string] $Description,

        [Parameter()]
        [hashtable] $Parameters,

        [Parameter()]
        [switch] $WaitForCompletion,

        [Parameter()]
        [string] $OutputArtifactPath,

        [Parameter()]
        [switch] $Force,

        [Parameter()]
        [ValidateRange(1, 2147483)]
        [int] $WaitForCompletionTimeoutInSeconds = 600,

        [Parameter()]
        [ValidateRange(1, 2147483)]
        [int] $ServiceUnavailableTimeoutInSeconds = 600,

        [Parameter()]
        [ValidateRange(1, 2147483)]
        [int] $UploadAndDownloadRequestTimeoutInSeconds = 300,

        [Parameter()]
        [ValidateRange(0, 31536000)]
        [int] $CancellationTimeoutInSeconds
    )

    # Whatever the caller prefers: a script must not go on as if its artifact were signed.
    $ErrorActionPreference = 'Stop'

    $fields = @()
    if ($Resubmit) {
        $path = 'SigningRequests/Resubmit'
        $fields += ConvertTo-TextField -Name 'OriginalSigningRequestId' -Value $OriginalSigningRequestId
        if ($null -ne $Parameters -and $Parameters.Count -gt 0) {
            Write-Warning -Message '-Parameters have no effect with -Resubmit: the values of the original signing request are kept.'
        }
    }
    elseif ($InputArtifactPath) {
        $path = 'SigningRequests/SubmitWithArtifact'
    }
    else {
        $path = 'SigningRequests/SubmitWithArtifactRetrievalLink'
    }
    $fields += @(Get-TextField -Bound $PSBoundParameters -Name @(
            'ProjectSlug', 'SigningPolicySlug', 'ArtifactConfigurationSlug', 'SigningPolicyId', 'ArtifactConfigurationId'))
    $fields += ConvertTo-TextField -Name 'Description' -Value $Description
    if ($InputArtifactPath) {
        $fields += ConvertTo-FileField -Name 'Artifact' -Path $InputArtifactPath -Parameter '-InputArtifactPath'
    }
    elseif ($ArtifactRetrievalLink) {
        $retrieval = @{
            Url         = $ArtifactRetrievalLink
            FileName    = $ArtifactRetrievalLinkFileName
            Sha256Hash  = $ArtifactRetrievalLinkSha256Hash
            HttpHeaders = $ArtifactRetrievalLinkHttpHeaders
        }
        $fields += @(Get-RetrievalField @retrieval)
    }
    $fields += @(Get-ParameterField -Parameters $Parameters)
    $fields += @(Get-OriginField -Origin $Origin)
    if ($WaitForCompletion -and -not $PSBoundParameters.ContainsKey('CancellationTimeoutInSeconds')) {
        $CancellationTimeoutInSeconds = $WaitForCompletionTimeoutInSeconds
    }
    if ($CancellationTimeoutInSeconds -gt 0) {
        $fields += ConvertTo-TextField -Name 'CancellationTimeoutInSeconds' -Value "$CancellationTimeoutInSeconds"
    }

    if ($WaitForCompletion) {
        if (-not $OutputArtifactPath) {
            if (-not $InputArtifactPath) {
                throw [System.ArgumentException]::new('-WaitForCompletion needs -OutputArtifactPath when there is no -InputArtifactPath to name the file after.')
            }
            $extension = [System.IO.Path]::GetExtension($InputArtifactPath)
            $OutputArtifactPath = [System.IO.Path]::ChangeExtension($InputArtifactPath, "signed$extension")
        }
        $output = Resolve-FilePath -Path $OutputArtifactPath
        Assert-OutputPath -Path $output -Force $Force.IsPresent
    }
    elseif ($OutputArtifactPath) {
        Write-Warning -Message '-OutputArtifactPath has no effect without -WaitForCompletion: fetch the signed artifact with Get-SignedArtifact.'
    }

    $settings = @{
        ApiUrl                                   = $ApiUrl
        OrganizationId                           = $OrganizationId
        ApiToken                                 = $ApiToken
        ClientCertificate                        = $ClientCertificate
        ServiceUnavailableTimeoutInSeconds       = $ServiceUnavailableTimeoutInSeconds
        UploadAndDownloadRequestTimeoutInSeconds = $UploadAndDownloadRequestTimeoutInSeconds
    }
    $connection = Open-Connection @settings
    try {
        $id = Invoke-Submission -Connection $connection -Path $path -Field $fields
        $id
        if ($WaitForCompletion) {
            $download = @{
                Connection       = $connection
                SigningRequestId = $id
                OutputPath       = $output
                TimeoutInSeconds = $WaitForCompletionTimeoutInSeconds
                Force            = $Force.IsPresent
            }
            Receive-SignedArtifact @download
        }
    }
    finally {
        $connection.Client.Dispose()
    }
}

function Get-SignedArtifact {
    <#
    .SYNOPSIS
    Waits for a signing request and downloads its signed artifact.

    .DESCRIPTION
    Waits until the signing request is completed and writes the signed artifact to a file, which appears under its name when
    it is complete. A request that ends in another way than completed, or not in time, is an error.

    What the server cannot answer for the moment (429, 5xx, no connection) is tried again, every 30 seconds unless the server
    says when. The server's address, the organization and the API token come from the parameters or, without them, from the
    environment variables COUNTERSIGN_URL, COUNTERSIGN_ORGANIZATION and COUNTERSIGN_TOKEN.

    .PARAMETER OrganizationId
    The id of the organization. COUNTERSIGN_ORGANIZATION when absent.

    .PARAMETER ApiToken
    The API token of a CI user or an interactive user. COUNTERSIGN_TOKEN, SIGNPATH_API_TOKEN or SIGNPATH_CI_USER_TOKEN when
    absent.

    .PARAMETER ClientCertificate
    A client certificate with its private key, for a proxy that asks for one. See Get-CertificateByMicrosoftTemplateId.

    .PARAMETER ApiUrl
    The address of the REST API, such as https://sign.example.com/Api. COUNTERSIGN_URL when absent.

    .PARAMETER SigningRequestId
    The id of the signing request, as Submit-SigningRequest returns it.

    .PARAMETER OutputArtifactPath
    Where the signed artifact is written.

    .PARAMETER Force
    Overwrite an existing file at OutputArtifactPath.

    .PARAMETER WaitForCompletionTimeoutInSeconds
    How long to wait for the end of the request, not counting the download. 600 when absent.

    .PARAMETER ServiceUnavailableTimeoutInSeconds
    How long a single call is tried again while the server cannot answer it. 600 when absent.

    .PARAMETER UploadAndDownloadRequestTimeoutInSeconds
    How long the download may take. 300 when absent.

    .INPUTS
    System.String. The id of the signing request.

    .OUTPUTS
    None.

    .EXAMPLE
    $id = Submit-SigningRequest -ProjectSlug 'app' -SigningPolicySlug 'test-signing' -InputArtifactPath 'app.exe'
    Get-SignedArtifact -SigningRequestId $id -OutputArtifactPath 'signed/app.exe' -Force

    Submits in one step and downloads in another, where the build may do something else meanwhile.

    .LINK
    Submit-SigningRequest

    .LINK
    about_Countersign
    #>
    [CmdletBinding(PositionalBinding = $false)]
    [OutputType([void])]
    param(
        [Parameter()]
        [string] $OrganizationId,

        [Parameter()]
        [Alias('CIUserToken')]
        [string] $ApiToken,

        [Parameter()]
        [System.Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate,

        [Parameter()]
        [string] $ApiUrl,

        [Parameter(Mandatory = $true, ValueFromPipeline = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $SigningRequestId,

        [Parameter(Mandatory = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $OutputArtifactPath,

        [Parameter()]
        [switch] $Force,

        [Parameter()]
        [ValidateRange(1, 2147483)]
        [int] $WaitForCompletionTimeoutInSeconds = 600,

        [Parameter()]
        [ValidateRange(1, 2147483)]
        [int] $ServiceUnavailableTimeoutInSeconds = 600,

        [Parameter()]
        [ValidateRange(1, 2147483)]
        [int] $UploadAndDownloadRequestTimeoutInSeconds = 300
    )

    process {
        $ErrorActionPreference = 'Stop'

        $output = Resolve-FilePath -Path $OutputArtifactPath
        Assert-OutputPath -Path $output -Force $Force.IsPresent
        $settings = @{
            ApiUrl                                   = $ApiUrl
            OrganizationId                           = $OrganizationId
            ApiToken                                 = $ApiToken
            ClientCertificate                        = $ClientCertificate
            ServiceUnavailableTimeoutInSeconds       = $ServiceUnavailableTimeoutInSeconds
            UploadAndDownloadRequestTimeoutInSeconds = $UploadAndDownloadRequestTimeoutInSeconds
        }
        $connection = Open-Connection @settings
        try {
            $download = @{
                Connection       = $connection
                SigningRequestId = $SigningRequestId
                OutputPath       = $output
                TimeoutInSeconds = $WaitForCompletionTimeoutInSeconds
                Force            = $Force.IsPresent
            }
            Receive-SignedArtifact @download
        }
        finally {
            $connection.Client.Dispose()
        }
    }
}

function Get-CertificateByMicrosoftTemplateId {
    <#
    .SYNOPSIS
    Gets the certificate that was issued from a template of Active Directory Certificate Services.

    .DESCRIPTION
    Looks through the personal certificates of the machine or the user for those whose certificate template information
    (extension 1.3.6.1.4.1.311.21.7) names the template. Of those that are valid now and have a private key, the one that is
    valid longest is returned. Pass it to -ClientCertificate of the other commands.

    .PARAMETER Store
    Whose personal certificates are searched: LocalMachine or CurrentUser.

    .PARAMETER TemplateId
    The object identifier of the template, as dotted numbers.

    .INPUTS
    None.

    .OUTPUTS
    System.Security.Cryptography.X509Certificates.X509Certificate2.

    .EXAMPLE
    $certificate = Get-CertificateByMicrosoftTemplateId -Store LocalMachine -TemplateId '1.3.6.1.4.1.311.21.8.1.2.3'
    Submit-SigningRequest -ClientCertificate $certificate -ProjectSlug 'app' -SigningPolicySlug 'test-signing' -InputArtifactPath 'app.exe'

    Submits through a proxy that admits the machines which were given a certificate from that template.

    .LINK
    Submit-SigningRequest
    #>
    [CmdletBinding(PositionalBinding = $false)]
    [OutputType([System.Security.Cryptography.X509Certificates.X509Certificate2])]
    param(
        [Parameter(Mandatory = $true)]
        [System.Security.Cryptography.X509Certificates.StoreLocation] $Store,

        [Parameter(Mandatory = $true)]
        [ValidatePattern('^[0-2](\.(0|[1-9][0-9]*))+$')]
        [string] $TemplateId
    )

    $ErrorActionPreference = 'Stop'

    $now = [System.DateTime]::Now
    $personal = [System.Security.Cryptography.X509Certificates.X509Store]::new([System.Security.Cryptography.X509Certificates.StoreName]::My, $Store)
    $personal.Open([System.Security.Cryptography.X509Certificates.OpenFlags]::ReadOnly)
    try {
        $certificate = $personal.Certificates |
            Where-Object -FilterScript { $_.HasPrivateKey -and $_.NotBefore -le $now -and $_.NotAfter -gt $now -and (Get-TemplateId -Certificate $_) -eq $TemplateId } |
            Sort-Object -Property NotAfter -Descending |
            Select-Object -First 1
    }
    finally {
        $personal.Close()
    }
    if ($null -eq $certificate) {
        throw [System.InvalidOperationException]::new("No certificate of template $TemplateId that is valid now and has a private key is among the personal certificates of $Store. Enroll one, or check the template's object identifier and the permissions on the private key.")
    }
    return $certificate
}

# Returns the object identifier in a certificate's template information, or null. The extension's value is
# SEQUENCE { templateID OBJECT IDENTIFIER, majorVersion INTEGER, minorVersion INTEGER OPTIONAL } in DER.
function Get-TemplateId {
    [CmdletBinding()]
    [OutputType([string])]
    param([Parameter(Mandatory = $true)] [System.Security.Cryptography.X509Certificates.X509Certificate2] $Certificate)

    $extension = $Certificate.Extensions['1.3.6.1.4.1.311.21.7']
    if ($null -eq $extension) {
        return $null
    }
    $der = $extension.RawData
    # Both lengths are below 128: an object identifier and two small numbers.
    if ($der.Length -lt 4 -or $der[0] -ne 0x30 -or $der[2] -ne 0x06 -or $der[3] -eq 0 -or $der[3] -gt 127 -or 4 + $der[3] -gt $der.Length) {
        return $null
    }
    $arcs = @()
    [uint64] $arc = 0
    foreach ($octet in $der[4..(3 + $der[3])]) {
        $arc = $arc * 128 + ($octet -band 0x7f)
        if ($octet -ge 0x80) {
            continue
        }
        if ($arcs.Count -eq 0) {
            # The first two arcs share a number (X.690, 8.19.4).
            $first = 2
            if ($arc -lt 80) {
                $first = [int] ($arc -ge 40)
            }
            $arcs = @($first, ($arc - 40 * $first))
        }
        else {
            $arcs += $arc
        }
        $arc = 0
    }
    return $arcs -join '.'
}

Export-ModuleMember -Function 'Submit-SigningRequest', 'Get-SignedArtifact', 'Get-CertificateByMicrosoftTemplateId'
