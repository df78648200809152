@{
    RootModule             = 'Countersign.psm1'
    ModuleVersion          = '1.0.0'
    GUID                   = '5b0f6ad0-0b8e-4b0e-9c2e-6f0a5f7f3d51'
    Author                 = 'The Countersign authors'
    CompanyName            = 'Countersign'
    Copyright              = 'The Countersign authors. Licensed under the Apache License, Version 2.0.'
    Description            = 'Submits artifacts to a Countersign server for code signing, resubmits signing requests, and downloads signed artifacts.'
    PowerShellVersion      = '5.1'
    CompatiblePSEditions   = @('Desktop', 'Core')
    DotNetFrameworkVersion = '4.7.2'
    FunctionsToExport      = @('Submit-SigningRequest', 'Get-SignedArtifact', 'Get-CertificateByMicrosoftTemplateId')
    CmdletsToExport        = @()
    VariablesToExport      = @()
    AliasesToExport        = @()
    FileList               = @(
        'Countersign.psd1'
        'Countersign.psm1'
        'Connection.ps1'
        'Request.ps1'
        'en-US/about_Countersign.help.txt'
    )
    PrivateData            = @{
        PSData = @{
            Tags       = @('CodeSigning', 'Signing', 'Authenticode', 'CI', 'PSEdition_Desktop', 'PSEdition_Core', 'Windows', 'Linux', 'MacOS')
            LicenseUri = 'https://www.apache.org/licenses/LICENSE-2.0'
        }
    }
}
